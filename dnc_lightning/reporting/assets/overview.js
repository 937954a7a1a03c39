const AVERAGE_NOTES = {
  mean: "Plug-in values, averaged over all ordered pairs, as published: the worst pairs rule it.",
  median: "Plug-in values, the middle one of all ordered pairs: the typical pair.",
  unbiased: "Corrected for the finite probe set, averaged over the resolved pairs only.",
};

// ---- tiles

function tile(title, value, unit, detail, className = "") {
  const box = element("div", "", "tile");
  const number = element("p", value, "value");
  if (unit) number.append(element("small", unit));
  const below = element("p", "", "detail");
  below.append(...detail);
  box.append(element("h2", title, className), number, below);
  return box;
}

function fallen(index) {
  const { start, now } = average();
  if (now[index] === null) return ["undefined: no pair of classes can be told apart"];
  if (report.probes < 2) return ["the first probe: nothing to compare with yet"];
  const { text, className } = change(start[index], now[index]);
  const calibrated = view().calibrated ? ", BatchNorm calibrated" : "";
  return [element("b", text, className), ` from ${format(start[index])} at step ${view().startStep.toLocaleString("en-US")}${calibrated}`];
}

function drawTiles() {
  const { resolved, pairs } = view();
  const percent = (share, digits) => (share === null ? "–" : (100 * share).toFixed(digits));
  const cost = report.seconds === null ? "" : `${report.seconds.toFixed(report.seconds < 10 ? 2 : 0)}\u00a0s for the latest probe`;
  const averaged = average();
  by("tiles").replaceChildren(
    ...["directional_cdnv", "cdnv"].map((metric) => {
      const index = METRICS.indexOf(metric);
      return averaged
        ? tile(TITLES[metric], format(averaged.now[index]), "", fallen(index), metric)
        : tile(TITLES[metric], "–", "", ["not recorded"], metric);
    }),
    ...fewShotTiles(),
    tile("Resolved pairs", percent(resolved, resolved === 1 ? 0 : 1), resolved === null ? "" : "%",
      [resolved === null ? "not recorded" : `of ${pairs.toLocaleString("en-US")} ordered pairs have means that differ beyond sampling noise`]),
    tile("Probe overhead", percent(report.overhead, 2), report.overhead === null ? "" : "%",
      [`of the wall time${cost ? "; " : ""}${cost}`]),
  );
  by("tiles").classList.toggle("six", by("tiles").children.length === 6);
}

// ---- collapse over training

function drawCollapse() {
  by("average-note").textContent = AVERAGE_NOTES[state.average] ?? "";
  const drawn = average();
  if (!drawn) return;
  const { data, layout } = coloured(drawn.figure);
  const { stack, fewShot, variance } = view();
  const steps = (fewShot ?? across() ?? variance ?? stack)?.steps;
  if (steps) layout.shapes = [marker(layout, steps)];
  plot("collapse", data, layout);
  const words = METRICS.map((metric, i) => `${TITLES[metric]} went from ${format(drawn.start[i])} to ${format(drawn.now[i])}`);
  by("collapse").setAttribute("aria-label", `Line chart over training, ${state.average} over pairs. ${words.join("; ")}.`);
}

