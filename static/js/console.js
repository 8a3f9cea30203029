// What the console's pages lack: filters that close, columns of numbers, names for what Django's scripts draw.

const filters = () => document.querySelectorAll("details.filter[open]");

document.addEventListener("click", (event) => {
  for (const filter of filters()) if (!filter.contains(event.target)) filter.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const filter of filters()) {
    filter.open = false;
    filter.querySelector("summary").focus();
  }
});

// A column of nothing but numbers is aligned as one; one with long ids or addresses breaks them.
const LONG = /\S{33}/;
const NUMBER = /^-?[\d,]+(\.\d+)?$/;
for (const table of document.querySelectorAll("#result_list")) {
  const rows = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const cells = rows.map((row) => row.cells[column]).filter(Boolean);
    const words = cells.map((cell) => cell.textContent.trim()).filter((text) => text && text !== "-" && text !== "—");
    if (words.some((text) => LONG.test(text))) for (const cell of cells) cell.classList.add("long");
    if (!words.length || !words.every((text) => NUMBER.test(text))) return;
    for (const cell of [head, ...cells]) cell.classList.add("number");
  });
}

// Select2 and the chooser of many draw themselves after the page, and leave some of it without a name.
function nameDrawn() {
  for (const select of document.querySelectorAll("select.admin-autocomplete")) {
    const label = select.labels[0];
    const word = label?.textContent.replace(/:\s*$/, "") ?? select.name;
    const box = select.nextElementSibling?.querySelector("[role=combobox]");
    const text = box?.querySelector("[role=textbox]");
    if (!text) continue;
    text.setAttribute("aria-label", word);
    if (label) label.id ||= `${select.id}_label`;
    if (label) box.setAttribute("aria-labelledby", `${label.id} ${text.id}`);
  }
  for (const table of document.querySelectorAll(".inline-group .tabular table")) {
    const heads = [...table.tHead.rows[0].cells];
    for (const field of table.querySelectorAll("tbody td :is(input:not([type=hidden]), select, textarea)")) {
      const head = heads[field.closest("td").cellIndex];
      if (!field.labels?.length && head) field.setAttribute("aria-label", head.textContent.replace("?", "").trim());
    }
  }
  for (const tip of document.querySelectorAll(".help-tooltip[aria-label]")) tip.setAttribute("role", "img");
}
addEventListener("load", () => setTimeout(nameDrawn));
document.addEventListener("formset:added", () => setTimeout(nameDrawn));
