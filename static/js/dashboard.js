// What every page has: light or dark, menus that close, the word when a part can't be loaded anew.

const seconds = 365 * 24 * 3600;

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=${seconds}; samesite=lax${secure}`;
  document.dispatchEvent(new CustomEvent("theme"));
});

const menu = document.getElementById("menu");
menu?.addEventListener("click", () => {
  const open = menu.getAttribute("aria-expanded") !== "true";
  menu.setAttribute("aria-expanded", String(open));
  document.body.classList.toggle("navigating", open);
});

function close(menus) {
  for (const menu of menus) menu.open = false;
}

document.addEventListener("click", (event) => {
  close([...document.querySelectorAll("details.menu[open]")].filter((menu) => !menu.contains(event.target)));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector("details.menu[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// A button with data-copies="#id" puts that element's text into the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copies);
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
  } else { // over plain http there is none: mark it, for the keyboard
    getSelection().selectAllChildren(source);
    source.select?.();
    return;
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 2000);
});

// A form with data-asks="…?" asks before it is sent.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.asks ?? event.target.dataset.asks;
  if (question && !confirm(question)) event.preventDefault();
});

let lost;
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => {
    if (lost) return;
    lost = document.createElement("p");
    lost.className = "message error";
    lost.setAttribute("role", "alert");
    lost.textContent = "The service does not answer: what you see may be old. It is asked again.";
    document.getElementById("messages").append(lost);
  });
}
document.addEventListener("htmx:afterOnLoad", () => {
  lost?.remove();
  lost = undefined;
});
