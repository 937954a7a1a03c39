// What every part of the page uses. The parts are joined, in one scope, in the order of html.py.

let report = JSON.parse(document.getElementById("report-data").textContent);
const by = (id) => document.getElementById(id);
const unique = (items) => [...new Set(items)];

// What a visit keeps. Storage may be refused to a page opened from a file: then nothing is kept.
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
  shots: kept.shots ?? null,
  pair: kept.pair ?? null,
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

// Numbers come in words, but for those that only a script knows: cells of a matrix, a line's end.
function rounded(value, whole) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return (whole(value * 10 ** digits) / 10 ** digits).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const format = (value) => rounded(value, Math.round);

// A bound must stay true as it is printed.
const formatUp = (bound) => rounded(bound, (value) => Math.ceil(value - 1e-6));

const dark = () => (state.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

// A copy of a figure in the colours of the theme: "--ink" is a CSS variable, two digits after "/" its opacity.
function coloured(value, style = getComputedStyle(document.documentElement)) {
  if (Array.isArray(value)) return value.map((item) => coloured(item, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, style)]));
  }
  if (typeof value !== "string" || !value.startsWith("--")) return value;
  const [name, opacity = ""] = value.split("/");
  const colour = style.getPropertyValue(name).trim();
  return colour ? colour + opacity : value;
}

// The place of the chosen probe among those that a part of the page holds.
function place(steps) {
  const later = state.step === null ? -1 : steps.findIndex((step) => step >= state.step);
  return later < 0 ? steps.length - 1 : later;
}

const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]] };

// The plotting library is the last and longest script of the page: numbers and tables do not wait.
async function plot(id, data, layout, config = {}) {
  if (window.Plotly) await Plotly.react(id, data, layout, { ...CONFIG, ...config });
}

// Charts that are not what the page opens for are drawn one a frame, so that it answers meanwhile.
const later = new Map();
function drawLater(id, work) {
  if (!later.size) requestAnimationFrame(drawNext);
  later.delete(id);
  later.set(id, work);
}
function drawNext() {
  const [id, work] = later.entries().next().value;
  later.delete(id);
  if (later.size) requestAnimationFrame(drawNext);
  if (by(id)) work();
}

function setSlider(id, { steps, labels }) {
  const at = place(steps);
  Object.assign(by(id), { max: steps.length - 1, value: at, disabled: steps.length < 2 });
  by(id).setAttribute("aria-valuetext", labels[at]);
  by(`${id}-text`).textContent = labels[at];
}

const label = (id, words) => by(id).setAttribute("aria-label", words);

// One picture of several that share what is not in their pages.
const opened = ({ data, layout, pages }, at) => coloured({
  data: data.map((trace, i) => ({ ...trace, ...pages[at].data[i] })),
  layout: { ...layout, ...pages[at].layout },
});

// Adds the dotted line that marks the chosen probe, in each panel of a chart over training.
function marked(layout, steps) {
  const x = steps[place(steps)] + 1;
  const line = { type: "line", x0: x, x1: x, y0: 0, y1: 1, layer: "below",
    line: { color: layout.xaxis.tickfont.color, width: 1, dash: "dot" } };
  const panels = ["", "2"].filter((k) => layout[`xaxis${k}`]);
  layout.shapes = [...(layout.shapes ?? []), ...panels.map((k) => ({ ...line, xref: `x${k}`, yref: `y${k} domain` }))];
}

// Text of parts: what is emphasised is a list of it and its style.
const told = (parts) => parts.map((part) => typeof part === "string" ? part : element("b", ...part));

function segments(id, name, values, current, words = (value) => value) {
  const radios = values.map((value) => {
    const label = element("label");
    const input = Object.assign(element("input"), {
      type: "radio", name, value, id: `${name}-${value}`, checked: value === current,
    });
    label.append(input, element("span", words(value)));
    return label;
  });
  by(id).replaceChildren(by(id).firstElementChild, ...radios);
}
