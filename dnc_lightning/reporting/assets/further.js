// ---- series without a chart of their own: what is said of them comes from their declarations

function furtherFigure({ title, meaning, when, now, detail, hint, square }, i) {
  const made = element("figure");
  const chart = Object.assign(element("div", "", square ? "chart square" : "chart"), { id: `further-${i}` });
  chart.setAttribute("role", "img");
  made.append(element("h3", title));
  if (now) {
    const below = element("p", "", "detail");
    below.append(...told(detail));
    if (hint) below.title = hint;
    made.append(element("p", now, "value"), below);
  }
  made.append(chart, element("figcaption", [meaning, when].filter(Boolean).join(" "), "read"));
  return made;
}

// Makes a section for each group of what belongs here, without the charts, and returns it.
function placeFurther(here) {
  const shown = report.further.filter(here);
  if (window.Plotly) document.querySelectorAll("#further .js-plotly-plot").forEach((chart) => Plotly.purge(chart));
  by("further").replaceChildren(...unique(shown.map(({ group }) => group)).map((group, g) => {
    const section = element("section", "", "panel");
    const title = Object.assign(element("h2", group), { id: `further-title-${g}` });
    section.setAttribute("aria-labelledby", title.id);
    const figures = element("div", "", "further-charts");
    figures.append(...shown.flatMap((entry, i) => entry.group === group ? [furtherFigure(entry, i)] : []));
    section.append(title, figures);
    return section;
  }));
  return shown;
}
