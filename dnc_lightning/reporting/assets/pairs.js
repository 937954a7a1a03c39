// ---- pairs of classes

const UNDEFINED = 0, ZERO = 1, LOWEST = 2, HIGHEST = 65535;

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

const position = () => place(view().stack.steps);

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
  const { data, layout } = coloured(stack[metric].figure);
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
  return pairs.sort((a, b) => b[0] - a[0]).slice(0, report.worst);
}

// A class of the table: its name, after its examples where the records hold some.
function classCell(i, before = "") {
  const { stack, task } = view();
  const cell = element("span", "", "class");
  const strip = report.examples[task]?.[stack.chosen[i]];
  if (before) cell.append(element("span", before, "arrow"));
  if (strip) {
    cell.append(Object.assign(element("img"), {
      src: `data:image/jpeg;base64,${strip}`, alt: `Examples of ${stack.classes[i]}`,
    }));
  }
  cell.append(stack.classes[i]);
  return cell;
}

function drawWorst(directional, cdnv, start) {
  const rows = worstPairs(directional).map(([value, i, j]) => {
    const row = element("tr");
    const names = element("td");
    names.append(classCell(i), " ", classCell(j, "→ "));
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
  by("examples-note").hidden = !by("worst").querySelector("img");
}

function drawPairs() {
  const { stack } = view();
  by("pairs-shown").hidden = !stack;
  by("pairs-empty").hidden = Boolean(stack);
  if (!stack) return;
  const at = position();
  setSlider("step", stack);
  const directional = matrix("directional_cdnv", at), cdnv = matrix("cdnv", at);
  drawPair("directional_cdnv", directional);
  drawPair("cdnv", cdnv);
  drawWorst(directional.values, cdnv.values, matrix("directional_cdnv", 0).values);
  const notes = [];
  if (stack.steps.length < stack.probes) notes.push(`${stack.steps.length} of ${stack.probes} probes are kept here.`);
  if (stack.classes.length < stack.allClasses) notes.push(`Of ${stack.allClasses.toLocaleString("en-US")} classes, the ${stack.classes.length} with the worst pairs at the last probe are shown.`);
  by("pairs-note").textContent = notes.join(" ");
}

