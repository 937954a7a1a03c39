// ---- a page from a file shows what is new by loading itself again

const REFRESH_MS = 10000;

function refresh() {
  storage.save("scroll", [scrollY, document.activeElement?.id ?? ""]);
  location.reload();
}

by("live").checked = state.live;
by("live").addEventListener("change", (event) => changed({ live: event.target.checked }));
setInterval(() => { if (state.live && !document.hidden) refresh(); }, REFRESH_MS);
