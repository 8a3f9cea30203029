// The console's home is asked for again and again: say so when no answer comes.

const stale = document.getElementById("stale");
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => { stale.hidden = false; });
}
document.addEventListener("htmx:afterOnLoad", () => { stale.hidden = true; });
