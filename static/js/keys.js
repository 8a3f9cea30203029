// Forms whose answer shows a secret: sent once; the day is asked for only when one is wanted.

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || !event.target.matches("form[data-once]")) return;
  const buttons = event.target.querySelectorAll("button");
  setTimeout(() => buttons.forEach((button) => { button.disabled = true; }));
});
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-once] button").forEach((button) => { button.disabled = false; });
});

const expires = document.getElementById("expires");
if (expires) {
  const show = () => document.getElementById("until-part").classList.toggle("hidden", expires.value !== "date");
  expires.addEventListener("change", show);
  show();
}

document.getElementById("secret")?.addEventListener("focus", (event) => event.target.select());
