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
  segments("averages", "average", averages, state.average, (name) => name[0].toUpperCase() + name.slice(1));
  settleShots();
}

// ---- the page

function drawFurther() {
  const belongs = (of, chosen) => of === null || of === chosen;
  placeFurther(({ encoder, task }) => belongs(encoder, state.encoder) && belongs(task, state.task)).forEach((entry, i) => {
    const { title, now, detail, when, square, figure } = entry;
    label(`further-${i}`, [title, now, ...told(detail).map((part) => part.textContent ?? part.trim()), when].filter(Boolean).join(" "));
    const { data, layout } = coloured(figure);
    drawLater(`further-${i}`, () => (square ? plotSquare : plot)(`further-${i}`, data, layout));
  });
}

const SECTIONS = { "few-shot": drawFewShot, tasks: drawTasks, variance: drawVariance, further: drawFurther, pairs: drawPairs };

function draw(section = (id, work) => work()) {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  by("theme").setAttribute("aria-pressed", String(dark()));
  if (!report.views.length) return;
  settle();
  drawTiles();
  drawCollapse();
  Object.entries(SECTIONS).forEach(([id, work]) => section(id, work));
}

const due = new Set();
function soon(...works) {
  if (!due.size) {
    requestAnimationFrame(() => {
      const now = [...due];
      due.clear();
      now.forEach((work) => work());
    });
  }
  works.forEach((work) => due.add(work));
}

function changed(values, ...works) {
  Object.assign(state, values);
  save();
  soon(...works);
}

function slide(id, held) {
  by(id).addEventListener("input", (event) => {
    const { steps } = held();
    const at = Number(event.target.value);
    changed({ step: at === steps.length - 1 ? null : steps[at] }, drawCollapse, drawFewShot, drawTasks, drawVariance, drawPairs);
  });
}

function restore() {
  const [top, focus] = storage.load("scroll") ?? [];
  storage.save("scroll", null);
  if (top) scrollTo(0, top);
  if (focus) by(focus)?.focus({ preventScroll: true });
}

by("encoder").addEventListener("change", (event) => changed({ encoder: event.target.value }, draw));
by("task").addEventListener("change", (event) => changed({ task: event.target.value }, draw));
by("averages").addEventListener("change", (event) => changed({ average: event.target.value }, drawTiles, drawCollapse, drawTasks));
by("shots").addEventListener("change", (event) => changed({ shots: Number(event.target.value) }, drawTiles, drawFewShot));
slide("step", () => view().stack);
by("pair").addEventListener("change", (event) => changed({ pair: event.target.value }, drawTasks));
slide("few-shot-step", () => view().fewShot);
slide("tasks-step", across);
slide("variance-step", () => view().variance);
by("theme").addEventListener("click", () => changed({ theme: dark() ? "light" : "dark" }, draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => soon(draw));
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  if (report.views.length) soon(drawFewShot, drawTasks, drawVariance, drawFurther, drawPairs);
});

function finish() {
  if (later.size) requestAnimationFrame(finish);
  else document.documentElement.dataset.ready = "true";
}

draw();
addEventListener("DOMContentLoaded", () => {
  // The page answers between two sections; the place that a refresh returns to needs all of them.
  draw(storage.load("scroll") ? undefined : drawLater);
  restore();
  finish();
});
