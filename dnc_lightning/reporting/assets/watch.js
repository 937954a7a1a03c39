// ---- all runs, as they train

const rows = new Map(report.rows.map((row) => [row.id, row]));
const local = {
  load() { try { return JSON.parse(localStorage.getItem("dnc-pinned")) ?? []; } catch { return []; } },
  save(ids) { try { localStorage.setItem("dnc-pinned", JSON.stringify(ids)); } catch { /* not kept */ } },
};
let pinned = local.load();
let fresh = new Set();

const words = (row) => [row.name, row.model, row.encoder, ...(row.tasks ?? [])].join(" ").toLowerCase();

function chosen() {
  const parts = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  return [...rows.values()]
    .filter((row) => parts.every((part) => words(row).includes(part)))
    .sort((a, b) => pinned.includes(b.id) - pinned.includes(a.id) || b.written - a.written);
}

function ago(seconds) {
  if (seconds < 5) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function curve(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  if (values.length < 2) return svg;
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", values.map((y, i) => `${120 * i / (values.length - 1)},${32 - 30 * (y - low) / span}`).join(" "));
  svg.setAttribute("viewBox", "0 0 120 34");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

function number({ now, change }, head) {
  const cell = element("td", now);
  cell.dataset.head = head;
  if (change) cell.append(element("small", change));
  return cell;
}

function about(row) {
  const cell = element("td");
  const several = row.tasks?.length > 1 ? `${row.tasks.length} tasks` : row.tasks?.[0];
  const others = row.encoders > 1 ? `${row.encoder} of ${row.encoders} encoders` : row.encoder;
  const name = row.problem ? element("b", row.name) : Object.assign(element("a", row.name), { href: `run/${row.id}` });
  name.title = row.folder;
  const status = element("span", row.training ? "Training" : "", row.training ? "status training" : "");
  cell.append(status, name, element("small", [row.model, others, several].filter(Boolean).join(" · ")));
  cell.append(...(row.alarms ?? []).map((text) => element("small", `Alarm: ${text}`, "alarm")));
  cell.append(...(row.cautions ?? []).map((text) => element("small", text, "caution-text")));
  if (row.problem) cell.append(element("small", row.problem, "problem"));
  return cell;
}

function pin(row) {
  const cell = element("td");
  const button = Object.assign(element("button", "Pin", "pin"), { type: "button", id: `pin-${row.id}` });
  button.setAttribute("aria-pressed", String(pinned.includes(row.id)));
  button.setAttribute("aria-label", `Pin ${row.name}`);
  button.addEventListener("click", () => {
    pinned = pinned.includes(row.id) ? pinned.filter((id) => id !== row.id) : [...pinned, row.id];
    local.save(pinned);
    drawRows();
  });
  cell.append(button);
  return cell;
}

function drawRow(row) {
  const line = element("tr", "", fresh.has(row.id) ? "new" : "");
  line.id = `row-${row.id}`;
  const none = { now: "", change: "" };
  const training = element("td");
  training.dataset.head = "Over training";
  training.append(curve(row.curve ?? []));
  const probes = element("td", row.probes ? row.probes.toLocaleString("en-US") : "–");
  probes.dataset.head = "Probes";
  probes.append(element("small", row.latest ?? ""), Object.assign(element("small", "", "ago"), { id: `ago-${row.id}` }));
  line.append(
    about(row),
    number(row.directional ?? none, "Directional CDNV"),
    training,
    number(row.cdnv ?? none, "CDNV"),
    number(row.error ?? none, "Measured error"),
    probes,
    pin(row),
  );
  return line;
}

function drawRows() {
  const focus = document.activeElement?.id;
  const shown = chosen();
  by("rows").replaceChildren(...shown.map(drawRow));
  fresh = new Set();
  by("table").hidden = !shown.length;
  by("none").hidden = Boolean(shown.length);
  by("none").textContent = rows.size ? "No run has these words." : "No run lies here yet: each appears when its ProbeCallback begins to record.";
  const there = pinned.filter((id) => rows.has(id) && !rows.get(id).problem && rows.get(id).probes);
  by("compare").hidden = there.length < 2;
  by("compare").href = `compare?${there.map((id) => `run=${id}`).join("&")}`;
  const training = [...rows.values()].filter((row) => row.training).length;
  const count = rows.size.toLocaleString("en-US");
  document.querySelector(".summary").textContent = `${count} ${rows.size === 1 ? "run" : "runs"}, ${training || "none"} in training on this machine`;
  if (focus?.startsWith("pin-")) by(focus)?.focus({ preventScroll: true });
  drawAges();
}

function drawAges() {
  rows.forEach((row, id) => {
    const box = by(`ago-${id}`);
    if (box) box.textContent = ago(Date.now() / 1000 - row.written);
  });
}

function theme() {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  by("theme").setAttribute("aria-pressed", String(dark()));
}

function connection(text, good) {
  by("connection").textContent = text;
  by("connection").classList.toggle("lost", !good);
}

by("filter").value = storage.load("filter") ?? "";
by("filter").addEventListener("input", () => { storage.save("filter", by("filter").value); drawRows(); });
by("theme").addEventListener("click", () => { state.theme = dark() ? "light" : "dark"; save(); theme(); });
setInterval(drawAges, 5000);

const events = new EventSource("events");
let first = true;
events.addEventListener("open", () => connection("Live", true));
events.addEventListener("error", () => { first = true; connection("Not connected", false); });
events.addEventListener("runs", ({ data }) => {
  const news = JSON.parse(data);
  if (first) rows.clear(); // all of them come first
  news.rows.forEach((row) => { rows.set(row.id, row); if (!first) fresh.add(row.id); });
  news.gone.forEach((id) => rows.delete(id));
  first = false;
  drawRows();
});

theme();
drawRows();
document.documentElement.dataset.ready = "true";
