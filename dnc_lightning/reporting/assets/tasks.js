
// ---- several tasks

const MANY_PAIRS = 6; // beyond, one pair of tasks is shown at a time
const TICK = 15; // pixels of the name of a task below it
const ROW = 54; // pixels of a cell of the heatmap, at most
const WIDE = 700; // pixels from which the two panels of the curves stand side by side
const NOTHING = { text: "No value is defined at this probe", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false };

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
  drawTaskHeatmap(found, coloured(found.heatmap));
  drawCosines(found);
  drawTaskCurves(found);
}

function drawTaskHeatmap(found, { data, layout }) {
  const at = place(found.steps);
  const side = found.tasks.length - 1;
  const empty = () => Array.from({ length: side }, () => Array(side).fill(null));
  const z = empty(), more = empty();
  found.pairs.forEach(([a, b], p) => {
    z[b - 1][a] = found.values.cos[at][p];
    more[b - 1][a] = [found.values.bound[at][p], found.values.largest[at][p], found.dependence[p], found.floor];
  });
  Object.assign(data[0], { z, customdata: more });
  layout.annotations = z.flat().some((value) => value !== null) ? [] : [NOTHING];
  layout.height = Math.round(Math.min(ROW * side, by("task-heatmap").clientWidth * 0.9) + (side < 4 ? 90 : 130));
  by("task-heatmap").style.height = `${layout.height}px`;
  thinTicks(layout.xaxis, by("task-heatmap").clientWidth * 0.7 / TICK);
  drawLater("task-heatmap", async () => {
    await plot("task-heatmap", data, layout);
    choosePairByClick(found);
  });
  const words = found.pairs.length > 15 ? "" : found.pairs.map((pair, p) => `; ${pairName(found, pair)} ${format(found.values.cos[at][p])}`).join("");
  label("task-heatmap", `Heatmap of mean |cos| between the axes of ${found.tasks.length} tasks at ${found.labels[at]}${words}.`);
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
function drawCosines(found) {
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
  shown.forEach((pair, i) => drawCosine(found, pair, ids[i], coloured(found.cosine), shown.length > 1, i, columns));
}

function drawCosine(found, pair, id, { data, layout }, small, i, columns) {
  const p = found.pairs.indexOf(pair);
  const { bound, cos } = found.values;
  [bound, cos].forEach((table, k) => { data[k].y = table.map((row) => (row[p] > 0 ? row[p] : null)); });
  layout.annotations = cos.some((row) => row[p] !== null) ? [] : [NOTHING];
  marked(layout, found.steps);
  layout.showlegend = false;
  layout.margin.t = 8;
  layout.height = small ? 190 : 360;
  if (small) {
    thinTicks(layout.xaxis, 4);
    data.forEach(({ marker }) => marker && Object.assign(marker, { size: 5 }));
    Object.assign(layout.xaxis.title, { text: "", standoff: 0 });
    if (i % columns) layout.yaxis.title.text = "";
  }
  by(id).style.height = `${layout.height}px`;
  drawLater(id, () => plot(id, data, layout, small ? { displayModeBar: false } : {}));
  const at = place(found.steps);
  label(id, `Line chart over training of mean |cos| between ${pairName(found, pair)}. At ${found.labels[at]}: measured ${format(cos[at][p])}, bound ${formatUp(bound[at][p])}, random directions ${format(found.floor)}, dependence of the labels ${format(found.dependence[p])}.`);
}

function drawTaskCurves(found) {
  const at = Math.max(0, found.averages.indexOf(state.average));
  if (!found.averages.length) return;
  const { data, layout } = opened(found.curves, at);
  const count = found.tasks.length;
  const chosen = found.tasks.indexOf(state.task);
  if (data[0].opacity && chosen >= 0) {
    [chosen, count + chosen].forEach((t) => {
      Object.assign(data[t].line, { color: layout.font.color, width: 3 });
      Object.assign(data[t], { opacity: 1, showlegend: t === chosen });
    });
    layout.showlegend = true;
  }
  if (by("task-curves").clientWidth < WIDE) {
    layout.xaxis.domain = layout.xaxis2.domain = [0, 1];
    layout.yaxis.domain = [0.56, 1];
    layout.yaxis2.domain = [0, 0.4];
    layout.xaxis.title.text = "";
    layout.yaxis2.title = structuredClone(layout.yaxis.title);
  }
  marked(layout, found.steps);
  drawLater("task-curves", () => plot("task-curves", data, layout));
  label("task-curves", found.words[at]);
}

// ---- where the variance goes

function drawVariance() {
  const { variance } = view();
  by("variance").hidden = !variance;
  if (!variance) return;
  setSlider("variance-step", variance);
  const at = place(variance.steps);
  const bars = opened(variance.bars, at), share = coloured(variance.share);
  const rows = bars.data[0].y.length;
  by("variance-about").textContent = variance.about[rows];
  bars.layout.height = 150 + 70 * rows;
  by("variance-bars").style.height = `${bars.layout.height}px`;
  drawLater("variance-bars", () => plotWithLegend("variance-bars", bars));
  label("variance-bars", variance.words[at]);
  marked(share.layout, variance.steps);
  drawLater("variance-share", () => plot("variance-share", share.data, share.layout));
  label("variance-share", variance.shareWords);
}
