// Sends the chosen file as it is, with its progress; then asks what would come of it.

const form = document.getElementById("batch");

if (form) {
  const at = (id) => document.getElementById(id);
  const [chosen, drop, sending, sent, speed, trouble, file] =
    ["chosen", "drop", "sending", "sent", "speed", "trouble", "file"].map(at);
  let request;

  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

  function say(text) {
    trouble.textContent = text;
    trouble.hidden = !text;
  }

  function wrong(picked) {
    if (picked.size === 0) return "The file is empty.";
    if (picked.size > Number(form.dataset.bytes)) {
      return `The file has ${megabytes(picked.size)} MB, and a batch's file at most 100. Split it.`;
    }
    return "";
  }

  function show(done, all, began) {
    const seconds = (performance.now() - began) / 1000;
    sent.value = all ? done / all : 0;
    const rate = seconds > 0.3 ? ` · ${megabytes(done / seconds)} MB/s` : "";
    speed.textContent = done === all ? "Stored and counted…" : `${megabytes(done)} of ${megabytes(all)} MB${rate}`;
  }

  function taken(id) {
    file.value = id;
    at("refused")?.remove();
    at("submit").disabled = false;
    at("looked").hidden = false;
    htmx.trigger("#report", "look");
  }

  function ended() {
    sending.hidden = true;
    const answer = request;
    request = undefined;
    if (answer.status !== 200) return say(answer.responseText.slice(0, 500) || "The upload broke off. Try it again.");
    if (!answer.getResponseHeader("Content-Type")?.startsWith("application/json")) return location.reload();
    return taken(JSON.parse(answer.responseText).id);
  }

  function send(picked) {
    request?.abort();
    say(wrong(picked));
    if (!trouble.hidden) return;
    const began = performance.now();
    request = new XMLHttpRequest();
    request.open("PUT", `${form.dataset.uploads}?filename=${encodeURIComponent(picked.name)}`);
    request.setRequestHeader("X-CSRFToken", form.querySelector("[name=csrfmiddlewaretoken]").value);
    request.setRequestHeader("HX-Request", "true");
    request.upload.addEventListener("progress", (event) => show(event.loaded, picked.size, began));
    request.addEventListener("load", ended);
    request.addEventListener("error", () => { sending.hidden = true; say("The upload broke off. Try it again."); });
    request.addEventListener("abort", () => { sending.hidden = true; });
    show(0, picked.size, began);
    sending.hidden = false;
    request.send(picked);
  }

  chosen.addEventListener("change", () => {
    if (chosen.files[0]) send(chosen.files[0]);
    chosen.value = "";
  });
  at("stop").addEventListener("click", () => request?.abort());
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => {
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
}
