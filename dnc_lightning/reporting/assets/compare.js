state.hidden = kept.hidden ?? []; // labels of the methods that are not shown
const CHARTS = { directional_cdnv: "collapse", cdnv: "collapse", error: "errors", certificate: "errors" };
const palette = () => report.palettes[dark() ? "dark" : "light"];
const colour = (index) => palette()[index % palette().length];
const shown = (index) => !state.hidden.includes(report.methods[index].label);
const task = () => report.tasks.find((t) => t.task === state.task);
const part = () => task().averages.find((a) => a.name === state.average);

function swatch(index) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 30 10");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const { dash } = report.methods[index];
  for (const [name, value] of Object.entries({
    x1: 0, x2: 30, y1: 5, y2: 5, stroke: colour(index), "stroke-width": 3,
    "stroke-dasharray": dash === "solid" ? "" : dash.replaceAll("px", ""),
  })) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

// ---- controls

function settle() {
  const tasks = report.tasks.map((t) => t.task);
  if (!tasks.includes(state.task)) state.task = tasks[0];
  const averages = task().averages.map((a) => a.name);
  if (!averages.includes(state.average)) state.average = averages[0] ?? null;
  const { shots } = task();
  if (!shots.includes(state.shots)) state.shots = task().shown ?? shots[0] ?? null;
  by("task").replaceChildren(...tasks.map((name) => new Option(name, name, false, name === state.task)));
  by("task-label").hidden = tasks.length < 2;
  segments("averages", "average", averages, state.average, (name) => name[0].toUpperCase() + name.slice(1));
  segments("shots", "shots", shots, state.shots);
  by("shots").hidden = by("few-shot").hidden = !shots.length;
  by("seeds-note").hidden = report.methods.every(({ seeds }) => seeds < 2);
}

function drawMethods() {
  const boxes = report.methods.map(({ label, seeds }, index) => {
    const box = element("label", "", "method");
    const input = Object.assign(element("input"), {
      type: "checkbox", name: "method", value: label, id: `method-${index}`, checked: shown(index),
    });
    box.append(input, swatch(index), element("span", label));
    if (seeds > 1) box.append(element("small", `${seeds} seeds`));
    return box;
  });
  by("methods").replaceChildren(by("methods").firstElementChild, ...boxes);
}

// ---- numbers

const multiple = (value) => (value === null ? "–" : `${format(value)}×`);
const falls = (value) => (value === null ? "–" : value >= 1 ? `↓ ${format(value)}×` : `↑ ${format(1 / value)}×`);
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(2)}%`);

// Heading, text of a row, line below it, and what is best: the lowest (1) or highest (-1) value.
function columns() {
  const m = state.shots;
  const rows = part().rows.filter(Boolean);
  const target = rows[0]?.target;
  const metric = (name, title) => [
    [title, (r) => [`${format(r[name].first)} → ${format(r[name].last)}`], (r) => r[name].last, 1],
    ["Fall", (r) => [falls(r[name].fall), r[name].span && `${r[name].span.map(format).join(" to ")}`], (r) => r[name].fall, -1],
  ];
  return [
    ...metric("directional_cdnv", "Directional CDNV"),
    ...metric("cdnv", "CDNV"),
    ["Ratio of falls", (r) => [multiple(r.ratio)], (r) => r.ratio, 0],
    ...(m === null ? [] : [
      [`Certificate, m\u00a0=\u00a0${m}`, (r) => [formatUp(r.certificate[m] ?? null)], (r) => (r.certificate[m] < 1 ? r.certificate[m] : null), 1],
      [`Measured error, m\u00a0=\u00a0${m}`, (r) => [format(r.error[m] ?? null)], (r) => r.error[m] ?? null, 1],
      [target ? `Shots for ${Math.round(100 * target)}% error` : "Shots needed", (r, seeds) =>
        [r.needed === null ? "–" : Math.round(r.needed).toLocaleString("en-US"), r.enough && r.enough < seeds ? `${r.enough} of ${seeds} seeds` : ""],
        (r) => r.needed, 1],
    ]),
    ["Steps", (r) => [r.steps.toLocaleString("en-US")], () => null, 0],
    ["Overhead", (r) => [percent(r.overhead)], () => null, 0],
  ];
}

function drawNumbers() {
  if (!part()) return;
  const all = columns();
  const rows = part().rows.map((row, index) => ({ row, index })).filter(({ row, index }) => row && shown(index));
  const head = element("tr");
  head.append(...["Method", ...all.map(([title]) => title)].map((title) => Object.assign(element("th", title), { scope: "col" })));
  by("numbers-head").replaceChildren(head);
  const best = all.map(([, , value, sign]) => {
    const values = rows.map(({ row }) => value(row)).filter((v) => v !== null && v !== undefined);
    return sign && values.length > 1 ? sign * Math.min(...values.map((v) => sign * v)) : null;
  });
  by("numbers").replaceChildren(...rows.map(({ row, index }) => {
    const line = element("tr");
    const name = Object.assign(element("th"), { scope: "row" });
    name.append(swatch(index), report.methods[index].label);
    line.append(name, ...all.map(([, words, value], column) => {
      const [text, below] = words(row, report.methods[index].seeds);
      const cell = element("td", text, best[column] !== null && value(row) === best[column] ? "best" : "");
      if (below) cell.append(element("small", below));
      return cell;
    }));
    return line;
  }));
}

// ---- charts

function painted(trace) {
  const made = coloured(trace);
  if (trace.method === undefined) return made;
  made.visible = shown(trace.method);
  if (made.fill) made.fillcolor = `${colour(trace.method)}2e`;
  else made.line.color = made.marker.color = colour(trace.method);
  return made;
}

function drawChart(id, picture, kind, words) {
  const layout = coloured(report.frames[kind]);
  for (const axis of ["xaxis", "yaxis"]) {
    const title = { ...layout[axis].title, ...picture.axes[axis].title };
    Object.assign(layout[axis], picture.axes[axis], { title });
  }
  const data = picture.traces.map(painted);
  if (!data.length) layout.annotations = [layout.nothing];
  delete layout.nothing;
  describe(id, data, words);
  plot(id, data, layout);
}

function describe(id, data, words) {
  const ends = data.filter((trace) => !trace.fill && trace.visible)
    .map(({ name, y }) => `${name} from ${format(y[0])} to ${format(y.at(-1))}`);
  by(id).setAttribute("aria-label", `${words}: ${ends.join("; ") || "nothing to draw"}.`);
}

function drawFurther() {
  placeFurther(({ task }) => task === null || task === state.task).forEach(({ figure, title }, i) => {
    const data = figure.data.map(painted);
    const layout = coloured(figure.layout);
    layout.showlegend = data.some(({ method }) => method === undefined);
    data.filter(({ method }) => method !== undefined).forEach((trace) => { trace.showlegend = false; });
    describe(`further-${i}`, data, title);
    plot(`further-${i}`, data, layout);
  });
}

function drawCharts() {
  drawFurther();
  if (part()) {
    drawChart("directional_cdnv", part().directional_cdnv, CHARTS.directional_cdnv, "Directional CDNV over training");
    drawChart("cdnv", part().cdnv, CHARTS.cdnv, "CDNV over training");
  }
  if (task().shots.length) {
    drawChart("error", task().error, CHARTS.error, "Measured error against shots");
    drawChart("certificate", task().certificate, CHARTS.certificate, "Certificate against shots");
  }
  by("across-panel").hidden = !report.across;
  if (!report.across) return;
  drawChart("across", report.across, "across", "Mean |cos| over training");
  by("across-words").textContent = report.across.rows
    .map((row, index) => ({ ...row, ...report.methods[index], index }))
    .filter(({ first, index }) => first !== null && shown(index))
    .map(({ label, first, last, floor }) => `${label}: ${format(first)} → ${format(last)}${floor === null ? "" : ` (${format(floor)} by chance)`}`)
    .join("; ");
}

function drawRuns() {
  by("runs").replaceChildren(...report.groups.flatMap(({ label, runs }) => runs.map((run) => {
    const line = element("tr");
    line.append(...[run.name, label, run.model, run.probes, run.step.toLocaleString("en-US"), run.time || "–", run.warnings || "none"]
      .map((text) => element("td", String(text))));
    return line;
  })));
}

function draw() {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  by("theme").setAttribute("aria-pressed", String(dark()));
  if (!report.tasks.length) return;
  settle();
  drawNumbers();
  drawCharts();
}

function changed(values, ...works) {
  Object.assign(state, values);
  save();
  works.forEach((work) => work());
}

by("task").addEventListener("change", (event) => changed({ task: event.target.value }, draw));
by("averages").addEventListener("change", (event) => changed({ average: event.target.value }, drawNumbers, drawCharts));
by("shots").addEventListener("change", (event) => changed({ shots: Number(event.target.value) }, drawNumbers));
by("methods").addEventListener("change", (event) => {
  const { value, checked } = event.target;
  const hidden = state.hidden.filter((label) => label !== value);
  changed({ hidden: checked ? hidden : [...hidden, value] }, drawNumbers, drawCharts);
});
by("theme").addEventListener("click", () => changed({ theme: dark() ? "light" : "dark" }, drawMethods, draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawMethods(); draw(); });

drawMethods();
drawRuns();
draw();
addEventListener("DOMContentLoaded", () => {
  draw();
  document.documentElement.dataset.ready = "true";
});
