// ---- pairs of classes

const decoded = new WeakMap();

function codes(part) {
  if (!decoded.has(part)) {
    const bytes = Uint8Array.from(atob(part.codes), (character) => character.charCodeAt(0));
    decoded.set(part, new Uint16Array(bytes.buffer));
  }
  return decoded.get(part);
}

// The other way of `quantised` in views.py: 0 is undefined, 1 is zero, 2 and 65,535 are the bounds.
function matrix({ stack }, metric, at) {
  const [low, high] = stack[metric].bounds;
  const count = stack.classes.length;
  const rows = stack.classes.map((_, i) => Array.from(codes(stack[metric]).subarray((at * count + i) * count, (at * count + i + 1) * count)));
  const logs = rows.map((row) => row.map((code) => code === 0 ? null : code === 1 ? low : low + (code - 2) / 65533 * (high - low)));
  const values = rows.map((row, i) => row.map((code, j) => code === 0 ? null : code === 1 ? 0 : 10 ** logs[i][j]));
  return { logs, values };
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

function drawPair(metric, at) {
  const { stack } = view();
  const { data, layout } = coloured(stack[metric].figure);
  const { logs, values } = matrix(view(), metric, at);
  Object.assign(data[0], { z: logs, customdata: values });
  layout.annotations = values.flat().some((value) => value !== null) ? [] : [NOTHING];
  plotSquare(metric, data, layout);
  label(metric, `Heatmap of ${stack[metric].title} of ${stack.classes.length} by ${stack.classes.length} classes at ${stack.labels[at]}; the worst pairs are in the table below.`);
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

function drawWorst(worst) {
  const rows = worst.map(([i, j, directional, cdnv, since]) => {
    const row = element("tr");
    const names = element("td"), change = element("td");
    names.append(classCell(i), " ", classCell(j, "→ "));
    change.append(element("span", since, since.startsWith("↓") ? "down" : ""));
    row.append(names, element("td", directional), element("td", cdnv), change);
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
  const at = place(stack.steps);
  setSlider("step", stack);
  ["directional_cdnv", "cdnv"].forEach((metric) => drawPair(metric, at));
  drawWorst(stack.worst[at]);
  by("pairs-note").textContent = stack.note;
}
