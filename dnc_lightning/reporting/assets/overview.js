const view = () => report.views.find((v) => v.encoder === state.encoder && v.task === state.task);
const average = () => view().averages.find((a) => a.name === state.average);

// ---- tiles

function tile({ title, value, unit, detail, key }) {
  const box = element("div", "", "tile");
  const number = element("p", value, "value");
  if (unit) number.append(element("small", unit));
  const below = element("p", "", "detail");
  below.append(...told(detail));
  box.append(element("h2", title, key), number, below);
  return box;
}

function drawTiles() {
  const { fewShot, unrecorded, resolved } = view();
  const errors = fewShot?.tiles[fewShot.shots.indexOf(state.shots)] ?? [];
  const tiles = [...(average()?.tiles ?? unrecorded), ...errors, resolved, report.cost];
  by("tiles").replaceChildren(...tiles.map(tile));
  by("tiles").classList.toggle("six", tiles.length === 6);
}

// ---- collapse over training

function drawCollapse() {
  const drawn = average();
  by("average-note").textContent = drawn?.note ?? "";
  if (!drawn) return;
  const { data, layout } = coloured(drawn.figure);
  const { stack, fewShot, variance } = view();
  const steps = (fewShot ?? across() ?? variance ?? stack)?.steps;
  if (steps) marked(layout, steps);
  plot("collapse", data, layout);
  label("collapse", drawn.words);
}
