// ---- few-shot certificates

const BOUNDS = { certificate: "Certificate", joint: "Joint", theorem_4_1: "Theorem 4.1", luthra_2025: "2025 bound" };

// The joint certificate is recorded at the first and last probe, or not at all.
const recorded = (name) => view().fewShot.values[name].flat().some((bound) => bound !== null);
const TRACKED = Object.keys(BOUNDS).filter((name) => name !== "joint");
const shownBounds = () => recorded("joint") ? Object.keys(BOUNDS) : TRACKED;

function settleShots() {
  const { fewShot } = view();
  if (!fewShot) return;
  if (!fewShot.shots.includes(state.shots)) state.shots = fewShot.shown;
  segments("shots", "shots", fewShot.shots, state.shots, (m) => m.toLocaleString("en-US"));
  by("shots").hidden = fewShot.shots.length < 2;
}

const inWords = (m) => `${m.toLocaleString("en-US")} ${m === 1 ? "shot" : "shots"}`;
const vacuous = (bound) => bound !== null && bound >= 1;

// All numbers of one probe and one number of shots.
function numbers(at, column) {
  const { values } = view().fewShot;
  return Object.fromEntries(Object.entries(values).map(([name, rows]) => [name, rows[at][column]]));
}

// As many decimals as the standard error needs to show.
function measured({ few_shot_error: error, se }) {
  if (error === null) return { value: "–", error: "" };
  if (!(se > 0)) return { value: format(error), error: "" };
  const decimals = Math.min(5, Math.max(3, Math.ceil(-Math.log10(se))));
  return { value: error.toFixed(decimals), error: `± ${se.toFixed(decimals)}` };
}

function certified({ certificate }, m) {
  if (certificate === null) return ["no certificate is defined"];
  if (vacuous(certificate)) return [`its certificate says nothing yet at ${inWords(m)}`];
  return ["certified at most ", element("b", formatUp(certificate))];
}

function fewShotTiles() {
  const { fewShot } = view();
  if (!fewShot) return [];
  const { shots, chance, target, needed, asked, values } = fewShot;
  const latest = numbers(fewShot.steps.length - 1, shots.indexOf(state.shots));
  const { value, error } = measured(latest);
  const below = latest.few_shot_error === null ? ["not measured here; "] : [];
  below.push(...certified(latest, state.shots));
  if (chance !== null) below.push(`; chance is ${Number(chance.toPrecision(3))}`);
  const goal = `a certified error of at most ${Number(target.toPrecision(3))}`;
  const defined = values.certificate.at(-1).some((bound) => bound !== null);
  const least = !asked ? ["–", "not recorded"]
    : needed !== null ? [needed.toLocaleString("en-US"), `labelled samples per class, for ${goal}`]
    : defined ? ["none", `no number of shots gives ${goal} yet`] : ["–", "undefined at the latest probe"];
  return [
    tile(`Few-shot error at ${inWords(state.shots)}`, value, error, below, "few_shot_error"),
    tile("Shots needed", least[0], "", [least[1]], "certificate"),
  ];
}

// Puts what was chosen into the frame of a chart; the traces behind it, such as chance, stay.
function filled(frame, traces) {
  traces.forEach(({ error_y, ...values }, i) => {
    Object.assign(frame.data[i], values);
    if (error_y) Object.assign(frame.data[i].error_y, error_y);
  });
  return frame;
}

// Columns of equal width that leave room for the button of the chart.
function plotWithLegend(id, { data, layout }) {
  const columns = by(id).clientWidth < 420 ? 2 : by(id).clientWidth < 800 ? 3 : 5;
  Object.assign(layout.legend, { entrywidthmode: "fraction", entrywidth: (columns === 2 ? 0.94 : 0.9) / columns });
  plot(id, data, layout);
}

function drawFewShot() {
  const { fewShot } = view();
  by("few-shot").hidden = !fewShot;
  if (!fewShot) return;
  setSlider("few-shot-step", fewShot);
  const interval = recorded("low");
  by("few-shot-joint").hidden = document.querySelector("#few-shot th.joint").hidden = !recorded("joint");
  by("few-shot-band").hidden = by("few-shot-interval").hidden = !interval;
  const at = place(fewShot.steps);
  const figures = coloured(fewShot.figures);
  const curve = filled(figures.shots, fewShot.atProbe[at]);
  plotWithLegend("few-shot-curve", curve);
  by("few-shot-curve").setAttribute("aria-label",
    `Line chart of error and bounds for ${fewShot.shots.join(", ")} labelled samples per class at ${fewShot.labels[at]}; the numbers are in the table beside it.`);
  drawFewShotTable(at);
  drawTightness(figures.training);
}

function drawFewShotTable(at) {
  const rows = view().fewShot.shots.map((m, column) => {
    const found = numbers(at, column);
    const { value, error } = measured(found);
    const first = element("td", value);
    if (error) first.append(" ", element("small", error));
    const bounds = shownBounds().map((name) => {
      const cell = element("td", formatUp(found[name]), vacuous(found[name]) ? "vacuous" : "");
      if (vacuous(found[name])) cell.append(" ", element("small", "vacuous"));
      else if (name === "certificate" && found.low !== null && found.high !== null) {
        cell.append(" ", element("small", `${format(found.low)} to ${formatUp(found.high)}`, "interval"));
      }
      return cell;
    });
    const row = element("tr");
    row.append(Object.assign(element("th", m.toLocaleString("en-US")), { scope: "row" }), first, ...bounds);
    return row;
  });
  by("few-shot-rows").replaceChildren(...rows);
}

function drawTightness(frame) {
  const { fewShot } = view();
  const column = fewShot.shots.indexOf(state.shots);
  const chart = filled(frame, fewShot.atShots[column]);
  Object.assign(chart.layout.yaxis, fewShot.axes[column]);
  chart.layout.shapes.push(marker(chart.layout, fewShot.steps));
  plotWithLegend("tightness", chart);
  const now = numbers(fewShot.steps.length - 1, column);
  const words = TRACKED.map((name) => `${BOUNDS[name]} ${formatUp(now[name])}`);
  by("tightness").setAttribute("aria-label",
    `Line chart over training at ${inWords(state.shots)} per class. Latest: measured error ${measured(now).value}, ${words.join(", ")}.`);
}
