state.hidden = kept.hidden ?? []; // labels of the methods that are not shown
const shown = (index) => !state.hidden.includes(report.methods[index].label);
const task = () => report.tasks.find((t) => t.task === state.task);
const part = () => task().averages.find((a) => a.name === state.average);

function swatch(index) {
  const { colour, dash } = report.methods[index];
  const line = `<line x1="0" x2="30" y1="5" y2="5" stroke="var(${colour})" stroke-width="3" stroke-dasharray="${dash}"/>`;
  const box = element("span");
  box.innerHTML = `<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true">${line}</svg>`;
  return box.firstElementChild;
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

// ---- numbers: every cell comes in words, with the value to compare it by and what stands below it

function drawNumbers() {
  if (!part()) return;
  const columns = [...part().columns, ...(task().at[state.shots] ?? []), ...task().columns];
  const rows = report.methods.map((_, index) => index).filter((index) => shown(index) && columns[0].cells[index]);
  const heads = ["Method", ...columns.map(({ title }) => title)];
  const head = element("tr");
  head.append(...heads.map((title) => Object.assign(element("th", title), { scope: "col" })));
  by("numbers-head").replaceChildren(head);
  const best = columns.map(({ best: sign, cells }) => {
    const values = rows.map((index) => cells[index][1] ?? null).filter((value) => value !== null);
    return sign && values.length > 1 ? sign * Math.min(...values.map((value) => sign * value)) : null;
  });
  by("numbers").replaceChildren(...rows.map((index) => {
    const line = element("tr");
    const name = Object.assign(element("th"), { scope: "row" });
    name.append(swatch(index), report.methods[index].label);
    line.append(name, ...columns.map(({ cells }, column) => {
      const [text, value, below] = cells[index];
      const cell = element("td", text, best[column] !== null && value === best[column] ? "best" : "");
      if (below) cell.append(element("small", below));
      return cell;
    }));
    return line;
  }));
}

// ---- charts

const ofShown = (words) => Object.entries(words).filter(([index, text]) => text && shown(Number(index))).map(([, text]) => text).join("; ");

function drawChart(id, { title, figure, words }) {
  const data = coloured(figure.data), layout = coloured(figure.layout);
  for (const trace of data) if (trace.method !== undefined) Object.assign(trace, { visible: shown(trace.method), showlegend: false });
  layout.showlegend = data.some(({ method }) => method === undefined);
  by(id).setAttribute("aria-label", `${title}: ${ofShown(words) || "nothing to draw"}.`);
  plot(id, data, layout);
}

function drawCharts() {
  placeFurther((entry) => entry.task === null || entry.task === state.task).forEach((entry, i) => drawChart(`further-${i}`, entry));
  for (const id of ["directional_cdnv", "cdnv", "error", "certificate"]) {
    const entry = part()?.[id] ?? task()[id];
    if (!entry) continue;
    by(id).previousElementSibling.textContent = entry.title;
    drawChart(id, entry);
  }
  by("across-panel").hidden = !report.across;
  if (!report.across) return;
  drawChart("across", report.across);
  by("across-words").textContent = ofShown(report.across.ends);
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
by("theme").addEventListener("click", () => changed({ theme: dark() ? "light" : "dark" }, draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

drawMethods();
drawRuns();
draw();
addEventListener("DOMContentLoaded", () => {
  draw();
  document.documentElement.dataset.ready = "true";
});
