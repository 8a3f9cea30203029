// Parts of pages that are asked for again and again: not while nobody looks, and at once when somebody does again.

const missed = new Set();

document.addEventListener("htmx:confirm", (event) => {
  const part = event.target;
  if (!part.matches("[data-polled]")) return;
  if (document.hidden) {
    event.preventDefault();
    missed.add(part);
  }
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const part of missed) {
    if (part.isConnected) htmx.ajax("GET", part.getAttribute("hx-get"), { source: part, target: part, swap: "outerHTML" });
  }
  missed.clear();
});

// A form with data-tidy leaves what is empty out of the address.
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.target.matches("form[data-tidy]")) return;
  for (const [name, value] of [...event.detail.formData.entries()]) {
    if (value === "") event.detail.formData.delete(name);
  }
});
