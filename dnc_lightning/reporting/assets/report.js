(() => {
"use strict";
const METRICS = ["cdnv", "directional_cdnv"];
const TITLES = { cdnv: "CDNV", directional_cdnv: "Directional CDNV" };
const AVERAGE_NOTES = {
  mean: "Plug-in values, averaged over all ordered pairs, as published: the worst pairs rule it.",
  median: "Plug-in values, the middle one of all ordered pairs: the typical pair.",
  unbiased: "Corrected for the finite probe set, averaged over the resolved pairs only.",
};
const UNDEFINED = 0, ZERO = 1, LOWEST = 2, HIGHEST = 65535;
const REFRESH_MS = 10000;
const WORST = 10;

const report = JSON.parse(document.getElementById("report-data").textContent);
const by = (id) => document.getElementById(id);
const unique = (items) => [...new Set(items)];

// What a refresh keeps. Storage may be refused to a page opened from a file: then nothing is kept.
const storage = {
  load(name) {
    try { return JSON.parse(sessionStorage.getItem(location.pathname + name)); } catch { return null; }
  },
  save(name, value) {
    try { sessionStorage.setItem(location.pathname + name, JSON.stringify(value)); } catch { /* not kept */ }
  },
};

const kept = storage.load("state") ?? {};
const state = {
  encoder: kept.encoder ?? null,
  task: kept.task ?? null,
  average: kept.average ?? null,
  step: kept.step ?? null, // null: the latest, also after a refresh
  finished: report.finished,
  live: kept.finished === report.finished ? kept.live : !report.finished,
  theme: kept.theme ?? null, // null: what the system prefers
};
const save = () => storage.save("state", state);

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function format(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("e", "\u2009×\u200910^").replace("+", "");
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  if (size >= 10) return value.toFixed(1);
  return size >= 1 ? value.toFixed(2) : value.toFixed(2 - Math.floor(Math.log10(size)));
}

function change(start, now) {
  if (!(start > 0) || !(now > 0)) return { text: "–", className: "" };
  const factor = start / now;
  if (Math.abs(Math.log(factor)) < 0.005) return { text: "unchanged", className: "" };
  return factor > 1
    ? { text: `↓ ${format(factor)}×`, className: "down" }
    : { text: `↑ ${format(1 / factor)}×`, className: "" };
}

const dark = () => (state.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const themed = (figures) => structuredClone(figures[dark() ? "dark" : "light"]);
const view = () => report.views.find((v) => v.encoder === state.encoder && v.task === state.task);
const average = () => view().averages.find((a) => a.name === state.average);

// ---- controls

function choose(id, values, current) {
  const select = by(id);
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === current)));
  by(`${id}-label`).hidden = values.length < 2;
}

function settle() {
  const encoders = unique(report.views.map((v) => v.encoder));
  if (!encoders.includes(state.encoder)) state.encoder = encoders[0];
  const tasks = report.views.filter((v) => v.encoder === state.encoder).map((v) => v.task);
  if (!tasks.includes(state.task)) state.task = tasks[0];
  const averages = view().averages.map((a) => a.name);
  if (!averages.includes(state.average)) state.average = averages[0] ?? null;
  choose("encoder", encoders, state.encoder);
  choose("task", tasks, state.task);
  const radios = averages.map((name) => {
    const label = element("label");
    const input = Object.assign(element("input"), {
      type: "radio", name: "average", value: name, id: `average-${name}`, checked: name === state.average,
    });
    label.append(input, element("span", name[0].toUpperCase() + name.slice(1)));
    return label;
  });
  by("averages").replaceChildren(by("averages").firstElementChild, ...radios);
}

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
    tile("Resolved pairs", percent(resolved, resolved === 1 ? 0 : 1), resolved === null ? "" : "%",
      [resolved === null ? "not recorded" : `of ${pairs.toLocaleString("en-US")} ordered pairs have means that differ beyond sampling noise`]),
    tile("Probe overhead", percent(report.overhead, 2), report.overhead === null ? "" : "%",
      [`of the wall time${cost ? "; " : ""}${cost}`]),
  );
}

// ---- charts

const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]] };

// The plotting library is the last and longest script of the page: numbers and tables do not wait.
async function plot(id, data, layout) {
  if (window.Plotly) await Plotly.react(id, data, layout, CONFIG);
}

function drawCollapse() {
  by("average-note").textContent = AVERAGE_NOTES[state.average] ?? "";
  const drawn = average();
  if (!drawn) return;
  const { data, layout } = themed(drawn.figures);
  const { stack } = view();
  if (stack) {
    const x = stack.steps[position()] + 1;
    layout.shapes = [{ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", layer: "below",
      line: { color: layout.xaxis.tickfont.color, width: 1, dash: "dot" } }];
  }
  plot("collapse", data, layout);
  const words = METRICS.map((metric, i) => `${TITLES[metric]} went from ${format(drawn.start[i])} to ${format(drawn.now[i])}`);
  by("collapse").setAttribute("aria-label", `Line chart over training, ${state.average} over pairs. ${words.join("; ")}.`);
}

const decoded = new WeakMap();

function codes(part) {
  if (!decoded.has(part)) {
    const bytes = Uint8Array.from(atob(part.codes), (character) => character.charCodeAt(0));
    decoded.set(part, new Uint16Array(bytes.buffer));
  }
  return decoded.get(part);
}

function matrix(metric, at) {
  const { stack } = view();
  const part = stack[metric];
  const [low, high] = part.bounds;
  const count = stack.classes.length;
  const all = codes(part).subarray(at * count * count, (at + 1) * count * count);
  const logs = [], values = [];
  for (let i = 0; i < count; i++) {
    const row = Array.from(all.subarray(i * count, (i + 1) * count));
    const log = row.map((code) => code === UNDEFINED ? null
      : code === ZERO ? low : low + (code - LOWEST) / (HIGHEST - LOWEST) * (high - low));
    logs.push(log);
    values.push(row.map((code, j) => code === UNDEFINED ? null : code === ZERO ? 0 : 10 ** log[j]));
  }
  return { logs, values };
}

function position() {
  const { steps } = view().stack;
  if (state.step === null) return steps.length - 1;
  const later = steps.findIndex((step) => step >= state.step);
  return later < 0 ? steps.length - 1 : later;
}

const heights = new Map();

// How tall a chart must be for square cells depends on the room that the class names take.
async function plotSquare(id, data, layout) {
  const chart = by(id);
  const key = [id, state.encoder, state.task, chart.clientWidth].join();
  layout.height = heights.get(key) ?? chart.clientWidth;
  await plot(id, data, layout);
  if (!window.Plotly || heights.has(key)) return;
  const { w, h } = chart._fullLayout._size;
  heights.set(key, Math.round(layout.height + w - h));
  await Plotly.relayout(id, { height: heights.get(key) });
}

function drawPair(metric, shown) {
  const { stack } = view();
  const { data, layout } = themed(stack[metric].figures);
  Object.assign(data[0], { z: shown.logs, customdata: shown.values });
  const defined = shown.values.flat().some((value) => value !== null);
  if (!defined) {
    layout.annotations = [{ text: "No pair is defined at this probe", x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false }];
  }
  plotSquare(metric, data, layout);
  by(metric).setAttribute("aria-label",
    `Heatmap of ${TITLES[metric]} of ${stack.classes.length} by ${stack.classes.length} classes at ${stack.labels[position()]}; the worst pairs are in the table below.`);
}

function worstPairs(directional) {
  const pairs = [];
  directional.forEach((row, i) => row.forEach((value, j) => { if (i !== j && value !== null) pairs.push([value, i, j]); }));
  return pairs.sort((a, b) => b[0] - a[0]).slice(0, WORST);
}

function drawWorst(directional, cdnv, start) {
  const { classes } = view().stack;
  const rows = worstPairs(directional).map(([value, i, j]) => {
    const row = element("tr");
    const names = element("td");
    const other = element("span", "", "other");
    other.append(element("span", "→ ", "arrow"), classes[j]);
    names.append(`${classes[i]} `, other);
    const since = element("td");
    const { text, className } = change(start[i][j], value);
    since.append(element("span", position() === 0 ? "–" : text, className));
    row.append(names, element("td", format(value)), element("td", format(cdnv[i][j])), since);
    return row;
  });
  if (!rows.length) {
    const cell = Object.assign(element("td", "No pair is defined at this probe."), { colSpan: 4 });
    rows.push(element("tr"));
    rows[0].append(cell);
  }
  by("worst").replaceChildren(...rows);
}

function drawPairs() {
  const { stack } = view();
  by("pairs-shown").hidden = !stack;
  by("pairs-empty").hidden = Boolean(stack);
  if (!stack) return;
  const at = position();
  const slider = by("step");
  slider.max = stack.steps.length - 1;
  slider.value = at;
  slider.disabled = stack.steps.length < 2;
  slider.setAttribute("aria-valuetext", stack.labels[at]);
  by("step-text").textContent = stack.labels[at];
  const directional = matrix("directional_cdnv", at), cdnv = matrix("cdnv", at);
  drawPair("directional_cdnv", directional);
  drawPair("cdnv", cdnv);
  drawWorst(directional.values, cdnv.values, matrix("directional_cdnv", 0).values);
  const notes = [];
  if (stack.steps.length < stack.probes) notes.push(`${stack.steps.length} of ${stack.probes} probes are kept here.`);
  if (stack.classes.length < stack.allClasses) notes.push(`Of ${stack.allClasses.toLocaleString("en-US")} classes, the ${stack.classes.length} with the worst pairs at the last probe are shown.`);
  by("pairs-note").textContent = notes.join(" ");
}

// ---- the page

function draw() {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  by("theme").setAttribute("aria-pressed", String(dark()));
  if (!report.views.length) return;
  settle();
  drawTiles();
  drawCollapse();
  drawPairs();
}

let framed = false;
function soon(work) {
  if (framed) return;
  framed = true;
  requestAnimationFrame(() => { framed = false; work(); });
}

function changed(values, work = draw) {
  Object.assign(state, values);
  save();
  soon(work);
}

function refresh() {
  storage.save("scroll", [scrollY, document.activeElement?.id ?? ""]);
  location.reload();
}

function restore() {
  const [top, focus] = storage.load("scroll") ?? [];
  storage.save("scroll", null);
  if (top) scrollTo(0, top);
  if (focus) by(focus)?.focus({ preventScroll: true });
}

by("encoder").addEventListener("change", (event) => changed({ encoder: event.target.value }));
by("task").addEventListener("change", (event) => changed({ task: event.target.value }));
by("averages").addEventListener("change", (event) => changed({ average: event.target.value }, () => { drawTiles(); drawCollapse(); }));
by("step").addEventListener("input", (event) => {
  const { steps } = view().stack;
  const at = Number(event.target.value);
  changed({ step: at === steps.length - 1 ? null : steps[at] }, () => { drawPairs(); drawCollapse(); });
});
by("theme").addEventListener("click", () => changed({ theme: dark() ? "light" : "dark" }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => soon(draw));
by("live").checked = state.live;
by("live").addEventListener("change", (event) => changed({ live: event.target.checked }, () => {}));
setInterval(() => { if (state.live && !document.hidden) refresh(); }, REFRESH_MS);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; if (report.views.length) soon(drawPairs); } });

draw();
addEventListener("DOMContentLoaded", () => {
  draw();
  restore();
  document.documentElement.dataset.ready = "true";
});
})();
