// ---- a page from `dnc watch`: what is new comes to it, and it stays where it is

const RUN = location.pathname.split("/").pop();
let shown = report.live; // version of the run
let wanted = shown;
let fetching = false;

function connection(words, good) {
  by("connection").textContent = words;
  by("connection").classList.toggle("lost", !good);
}

// What the server wrote into the page comes from the new one; what scripts drew, they draw again.
function take(page) {
  for (const part of document.querySelectorAll("[data-fresh], [data-shell]")) {
    const { fresh, shell } = part.dataset;
    const found = page.querySelector(fresh ? `[data-fresh="${fresh}"]` : `[data-shell="${shell}"]`);
    part.hidden = found.hidden;
    if (fresh && part.innerHTML !== found.innerHTML) part.replaceChildren(...document.importNode(found, true).childNodes);
  }
  document.title = page.title;
  report = JSON.parse(page.getElementById("report-data").textContent);
  shown = report.live;
  draw();
}

async function update() {
  if (fetching) return;
  fetching = true;
  try {
    while (shown !== wanted) {
      const asked = wanted;
      const answer = await fetch(`${RUN}/update`);
      if (!answer.ok) break; // its row says what is wrong
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (wanted === asked) wanted = shown;
    }
  } finally {
    fetching = false;
  }
}

const events = new EventSource(`../events?run=${RUN}`);
events.addEventListener("open", () => connection("Live", true));
events.addEventListener("error", () => connection("Not connected: what was last read stays", false));
events.addEventListener("runs", ({ data }) => {
  const { rows, gone } = JSON.parse(data);
  const row = rows.find(({ id }) => id === RUN);
  if (gone.includes(RUN)) connection("The folder of this run is gone: what was last read stays", false);
  if (!row) return;
  connection(row.problem || "Live", !row.problem);
  if (row.problem) return;
  wanted = row.version;
  update().catch(() => connection("Not connected: what was last read stays", false));
});
