// ---- few-shot certificates

function settleShots() {
  const { fewShot } = view();
  if (!fewShot) return;
  if (!fewShot.shots.includes(state.shots)) state.shots = fewShot.shown;
  segments("shots", "shots", fewShot.shots, state.shots, (m) => m.toLocaleString("en-US"));
  by("shots").hidden = fewShot.shots.length < 2;
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
  for (const [name, held] of Object.entries(fewShot.held)) {
    document.querySelector(`#few-shot th.${name}`).hidden = !held;
    const words = document.getElementById(`few-shot-${name}`);
    if (words) words.hidden = !held;
  }
  by("few-shot-band").hidden = by("few-shot-interval").hidden = !fewShot.interval;
  const at = place(fewShot.steps);
  const curve = opened(fewShot.curve, at);
  plotWithLegend("few-shot-curve", curve);
  label("few-shot-curve", `Line chart of error and bounds for ${fewShot.shots.join(", ")} labelled samples per class at ${fewShot.labels[at]}; the numbers are in the table beside it.`);
  drawFewShotTable(curve.data.filter(({ text }) => text), at);
  const column = fewShot.shots.indexOf(state.shots);
  const training = opened(fewShot.training, column);
  marked(training.layout, fewShot.steps);
  plotWithLegend("tightness", training);
  label("tightness", fewShot.words[column]);
}

// The words of the lines: the measured error, which is drawn last, and the bounds.
function drawFewShotTable(lines, at) {
  const { shots, intervals } = view().fewShot;
  const bounds = lines.slice(0, -1);
  by("few-shot-rows").replaceChildren(...shots.map((m, column) => {
    const [value, error] = lines.at(-1).text[column].split(" ± ");
    const first = element("td", value);
    if (error) first.append(" ", element("small", `± ${error}`));
    const row = element("tr");
    row.append(Object.assign(element("th", m.toLocaleString("en-US")), { scope: "row" }), first);
    row.append(...bounds.map(({ text, y }, k) => {
      const vacuous = y[column] >= 1;
      const cell = element("td", text[column], vacuous ? "vacuous" : "");
      const interval = k ? "" : intervals[at][column];
      if (vacuous) cell.append(" ", element("small", "vacuous"));
      else if (interval) cell.append(" ", element("small", interval, "interval"));
      return cell;
    }));
    return row;
  }));
}
