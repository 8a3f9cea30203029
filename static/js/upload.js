// New batch: a file is sent as it stands, with its progress; the server looks at it, and shows what would come of it.

const form = document.getElementById("new");
const part = (id) => document.getElementById(id);
const [zone, input, sending, bar, wrong, preflight] = ["zone", "file", "sending", "bytes", "wrong", "preflight"].map(part);
const MOST = Number(form.dataset.most);
const MB = 1_000_000;
let request; // the upload that runs

function say(text) {
  wrong.textContent = text;
  wrong.hidden = !text;
}

// What the server would refuse, in its words, before a byte is sent.
function fault(file) {
  if (!/\.(jsonl|ndjson)$/i.test(file.name)) return `${file.name} is no .jsonl file: write one request a line.`;
  if (file.size === 0) return form.dataset.empty;
  if (file.size > MOST) return form.dataset.tooLarge;
  return "";
}

function take(files) {
  if (!files.length) return;
  const refused = files.length > 1 ? "Drop one file: a batch has one." : fault(files[0]);
  say(refused);
  if (!refused) send(files[0]);
}

function size(bytes) {
  return bytes < MB ? `${Math.ceil(bytes / 1000).toLocaleString("en")} kB` : `${(bytes / MB).toFixed(1)} MB`;
}

function show(sent, all, seconds) {
  bar.max = all;
  bar.value = sent;
  const speed = seconds > 0.5 ? ` · ${size(sent / seconds)}/s` : "";
  const left = seconds > 0.5 && sent ? ` · ${Math.ceil((all - sent) * seconds / sent)} s left` : "";
  part("sent").textContent = sent < all ? `${size(sent)} of ${size(all)}${speed}${left}` : `${size(all)} sent: it is being stored`;
}

function send(file) {
  request?.abort();
  const began = performance.now();
  const mine = request = new XMLHttpRequest();
  const name = file.name.toWellFormed?.() ?? file.name;
  mine.open("PUT", `${form.dataset.uploads}?filename=${encodeURIComponent(name)}`);
  mine.setRequestHeader("X-CSRFToken", form.elements.csrfmiddlewaretoken.value);
  mine.setRequestHeader("HX-Request", "true"); // who is signed out is told so, not sent elsewhere with all these bytes
  mine.setRequestHeader("Content-Type", "application/jsonl");
  mine.upload.addEventListener("progress", (event) => show(event.loaded, event.total, (performance.now() - began) / 1000));
  mine.addEventListener("load", () => ended(mine));
  mine.addEventListener("error", () => say("The connection broke off. Send the file again."));
  mine.addEventListener("loadend", () => { if (request === mine) busy(false); });
  part("sending-name").textContent = file.name;
  show(0, file.size, 0);
  busy(true);
  mine.send(file);
}

function busy(is) {
  if (!is) request = undefined;
  const focused = sending.contains(document.activeElement) || document.activeElement === input;
  sending.hidden = !is;
  zone.hidden = is;
  if (focused) (is ? part("cancel") : input).focus();
}

function ended(answer) {
  if (answer.getResponseHeader("HX-Refresh")) {
    say("You are signed out. Sign in in another tab, load this page again, and send the file once more.");
  } else if (answer.status === 200) {
    choose(JSON.parse(answer.responseText).id);
  } else {
    const plain = answer.getResponseHeader("Content-Type")?.startsWith("text/plain");
    say(plain ? answer.responseText : "The file was not taken. Load this page again, and send it once more.");
  }
}

function choose(id) {
  say("");
  form.elements.file_id.value = id;
  history.replaceState(null, "", id ? `?file=${id}` : location.pathname);
  if (id) htmx.trigger(preflight, "chosen");
}

input.addEventListener("change", () => {
  take(input.files);
  input.value = ""; // so that the same file, mended, can be chosen again
});
part("cancel").addEventListener("click", () => request?.abort());

let inside = 0;
form.addEventListener("dragenter", () => { inside += 1; zone.classList.add("over"); });
form.addEventListener("dragleave", () => { inside -= 1; if (!inside) zone.classList.remove("over"); });
form.addEventListener("dragover", (event) => event.preventDefault());
form.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  zone.classList.remove("over");
  take(event.dataTransfer.files);
});

for (const link of document.querySelectorAll("a[data-file]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    choose(link.dataset.file);
  });
}

preflight.addEventListener("htmx:beforeRequest", () => {
  delete form.dataset.asks;
  preflight.setAttribute("aria-busy", "true");
});
preflight.addEventListener("htmx:afterRequest", () => preflight.removeAttribute("aria-busy"));
preflight.addEventListener("htmx:afterSwap", () => {
  const verdict = part("verdict")?.dataset.verdict;
  part("said").textContent = (part("verdict") ?? preflight.querySelector(".error, .message, h2"))?.textContent ?? "";
  if (verdict === "fails") form.dataset.asks = "The batch would fail at once, as it says. Submit it all the same?";
  if (verdict === "refused") form.dataset.asks = "The batch would be refused now, as it says. Submit it all the same?";
});
document.addEventListener("removed", () => choose(""));

const pairs = part("pairs");
const more = part("add-pair");
more.addEventListener("click", () => {
  const rows = pairs.querySelectorAll(".pair");
  const row = rows[0].cloneNode(true);
  for (const each of row.querySelectorAll("input")) {
    each.value = "";
    each.setAttribute("aria-label", each.getAttribute("aria-label").replace(/\d+/, rows.length + 1));
  }
  more.before(row);
  row.querySelector("input").focus();
  more.hidden = rows.length + 1 >= Number(pairs.dataset.most);
});

form.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  if (request) {
    event.preventDefault();
    say("The file is still on its way: submit when it has arrived.");
    return;
  }
  setTimeout(() => { if (!event.defaultPrevented) part("submit").disabled = true; });
});
addEventListener("pageshow", () => { part("submit").disabled = false; });
addEventListener("beforeunload", (event) => { if (request) event.preventDefault(); });

zone.hidden = false;
more.hidden = false;
