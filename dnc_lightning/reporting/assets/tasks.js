
// ---- several tasks

const MANY_PAIRS = 6; // beyond, one pair of tasks is shown at a time
const TICK = 15; // pixels of the name of a task below it
const ROW = 54; // pixels of a cell of the heatmap, at most
const WIDE = 700; // pixels from which the two panels of the curves stand side by side

const across = () => report.tasks.find((found) => found.encoder === state.encoder);
const pairKey = ([a, b]) => `${a}-${b}`;

function settlePair() {
  const found = across();
  const keys = found.pairs.map(pairKey);
  if (!keys.includes(state.pair)) state.pair = keys[0];
  const options = found.pairs.map((pair) => new Option(pairName(found, pair), pairKey(pair), false, pairKey(pair) === state.pair));
  by("pair").replaceChildren(...options);
  by("pair-label").hidden = keys.length <= MANY_PAIRS;
}

const pairName = ({ tasks }, [a, b]) => `${tasks[a]} and ${tasks[b]}`;

function drawTasks() {
  const found = across();
  by("tasks").hidden = !found;
  if (!found) return;
  settlePair();
  setSlider("tasks-step", found);
  const figures = coloured(found.figures);
  drawTaskHeatmap(found, figures.heatmap);
  drawCosines(found, figures.cosine);
  drawTaskCurves(found, figures.curves);
}

function drawTaskHeatmap(found, { data, layout }) {
  const at = place(found.steps);
  const side = found.tasks.length - 1;
  const empty = () => Array.from({ length: side }, () => Array(side).fill(null));
  const z = empty(), told = empty();
  found.pairs.forEach(([a, b], p) => {
    z[b - 1][a] = found.values.cos[at][p];
    told[b - 1][a] = [found.values.bound[at][p], found.values.largest[at][p], found.dependence[p], found.floor];
  });
  Object.assign(data[0], { z, customdata: told });
  layout.height = Math.round(Math.min(ROW * side, by("task-heatmap").clientWidth * 0.9) + (side < 4 ? 90 : 130));
  by("task-heatmap").style.height = `${layout.height}px`;
  thinTicks(layout.xaxis, by("task-heatmap").clientWidth * 0.7 / TICK);
  drawLater("task-heatmap", async () => {
    await plot("task-heatmap", data, layout);
    choosePairByClick(found);
  });
  const words = found.pairs.length > 15 ? "" : found.pairs.map((pair, p) => `; ${pairName(found, pair)} ${format(found.values.cos[at][p])}`).join("");
  by("task-heatmap").setAttribute("aria-label",
    `Heatmap of mean |cos| between the axes of ${found.tasks.length} tasks at ${found.labels[at]}${words}.`);
}

function thinTicks(axis, most) {
  const every = Math.ceil(axis.tickvals.length / Math.max(1, most));
  axis.tickvals = axis.tickvals.filter((_, k) => k % every === 0);
  axis.ticktext = axis.ticktext.filter((_, k) => k % every === 0);
}

// A short cut for the mouse; the selector does the same.
function choosePairByClick(found) {
  const chart = by("task-heatmap");
  chart.removeAllListeners?.("plotly_click");
  if (found.pairs.length <= MANY_PAIRS) return;
  chart.on?.("plotly_click", ({ points: [{ x, y }] }) => {
    const pair = [x, y].map((name) => found.tasks.indexOf(name));
    if (found.pairs.some((known) => pairKey(known) === pairKey(pair))) changed({ pair: pairKey(pair) }, drawTasks);
  });
}

// One small chart per pair of tasks, or one for the chosen pair where there are many.
function drawCosines(found, frame) {
  const few = found.pairs.length <= MANY_PAIRS;
  const shown = few ? found.pairs : found.pairs.filter((pair) => pairKey(pair) === state.pair);
  const box = by("cosines");
  const columns = Math.min(shown.length, box.clientWidth < 600 ? 2 : 3);
  box.style.setProperty("--columns", columns);
  const ids = shown.map((pair) => `cosine-${pairKey(pair)}`);
  if (ids.join() !== [...box.querySelectorAll(".chart")].map((chart) => chart.id).join()) {
    if (window.Plotly) box.querySelectorAll(".js-plotly-plot").forEach((chart) => Plotly.purge(chart));
    box.replaceChildren(...shown.map((pair, i) => {
      const cell = element("div");
      const chart = Object.assign(element("div", "", "chart"), { id: ids[i] });
      chart.setAttribute("role", "img");
      cell.append(element("h4", pairName(found, pair)), chart);
      return cell;
    }));
  }
  shown.forEach((pair, i) => drawCosine(found, pair, ids[i], structuredClone(frame), shown.length > 1, i, columns));
}

function drawCosine(found, pair, id, { data, layout }, small, i, columns) {
  const p = found.pairs.indexOf(pair);
  const x = found.steps.map((step) => step + 1);
  const positive = (values) => values.map((value) => (value > 0 ? value : null));
  const { bound, cos } = found.values;
  Object.assign(data[0], { x, y: positive(bound.map((row) => row[p])) });
  Object.assign(data[1], { x, y: positive(cos.map((row) => row[p])) });
  Object.assign(data[2], { x: [0.1, 10 * Math.max(10, ...x)], y: [found.floor, found.floor] });
  layout.shapes = [marker(layout, found.steps)];
  layout.showlegend = false;
  layout.margin.t = 8;
  layout.height = small ? 190 : 360;
  if (small) {
    thinTicks(layout.xaxis, 4);
    Object.assign(layout.xaxis.title, { text: "", standoff: 0 });
    if (i % columns) layout.yaxis.title.text = "";
  }
  by(id).style.height = `${layout.height}px`;
  drawLater(id, () => plot(id, data, layout, small ? { displayModeBar: false } : {}));
  const at = place(found.steps);
  by(id).setAttribute("aria-label",
    `Line chart over training of mean |cos| between ${pairName(found, pair)}. At ${found.labels[at]}: measured ${format(cos[at][p])}, bound ${formatUp(bound[at][p])}, random directions ${format(found.floor)}, dependence of the labels ${format(found.dependence[p])}.`);
}

function drawTaskCurves(found, { data, layout }) {
  const values = found.curves[state.average] ?? Object.values(found.curves)[0] ?? [];
  values.forEach((trace, i) => Object.assign(data[i], trace));
  const wide = by("task-curves").clientWidth >= WIDE;
  const count = found.tasks.length;
  const chosen = found.tasks.indexOf(state.task);
  if (data[0]?.showlegend === false && chosen >= 0) {
    [chosen, count + chosen].forEach((t) => {
      Object.assign(data[t].line, { color: layout.font.color, width: 3 });
      Object.assign(data[t], { opacity: 1, showlegend: t === chosen });
    });
    layout.showlegend = true;
  }
  if (!wide) {
    layout.xaxis.domain = layout.xaxis2.domain = [0, 1];
    layout.yaxis.domain = [0.56, 1];
    layout.yaxis2.domain = [0, 0.4];
    layout.xaxis.title.text = "";
    layout.yaxis2.title = structuredClone(layout.yaxis.title);
  }
  const line = marker(layout, found.steps);
  layout.shapes = ["x", "x2"].map((xref) => ({ ...line, xref, yref: xref === "x" ? "y domain" : "y2 domain" }));
  layout.annotations = [...(layout.annotations ?? []), ...METRICS.map((metric, k) => ({
    text: `<b>${TITLES[metric]}</b>`, xref: k ? "x2 domain" : "x domain", yref: k ? "y2 domain" : "y domain",
    x: 1, y: 1, xanchor: "right", yanchor: "top", showarrow: false,
  }))];
  drawLater("task-curves", () => plot("task-curves", data, layout));
  const now = (t) => METRICS.map((metric, k) => `${TITLES[metric]} ${format(values[k * count + t]?.y.at(-1) ?? null)}`).join(", ");
  const words = found.tasks.length > 8 ? "" : found.tasks.map((task, t) => `; ${task}: ${now(t)}`).join("");
  by("task-curves").setAttribute("aria-label", `Line charts over training of ${found.tasks.length} tasks, ${state.average} over pairs. Latest${words}.`);
}

// ---- where the variance goes

const listed = new Intl.ListFormat("en-GB");

function drawVariance() {
  const { variance, task } = view();
  by("variance").hidden = !variance;
  if (!variance) return;
  setSlider("variance-step", variance);
  const at = place(variance.steps);
  const pairs = Object.entries(variance.pairs[at]);
  by("variance-about").textContent =
    `Within-class variance of ${pairs.length > 1 ? `the ${listed.format(pairs.map(([name]) => name))} pairs of classes` : "the only pair of classes"} of task “${task}” by directional CDNV: on the decision axis, in the widest direction orthogonal to it, in the next 9, the next 90, and in all others.`;
  const { bars, share } = coloured(variance.figures);
  filled(bars, variance.atProbe[at]);
  bars.layout.height = 150 + 70 * pairs.length;
  by("variance-bars").style.height = `${bars.layout.height}px`;
  drawLater("variance-bars", () => plotWithLegend("variance-bars", bars));
  const words = pairs.map(([name, [a, b]], row) => {
    const [axis] = variance.atProbe[at];
    return `${name} pair, ${a} and ${b}: ${axis.customdata[row]} on the axis`;
  });
  by("variance-bars").setAttribute("aria-label", `Stacked bars at ${variance.labels[at]}. ${words.join("; ")}.`);
  share.layout.shapes = [marker(share.layout, variance.steps)];
  drawLater("variance-share", () => plot("variance-share", share.data, share.layout));
  by("variance-share").setAttribute("aria-label",
    `Line chart over training of the share of the variance on the axis. Latest: ${share.data.map((line) => `${line.name} ${format(line.y.at(-1))} %`).join(", ")}.`);
}
