// What the browser says of passkeys, in words: a window that was closed, a key that is not known here.

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const exists = event.detail.exception?.name === "InvalidStateError";
  const said = document.createElement("p");
  said.className = "message error";
  said.setAttribute("role", "alert");
  said.textContent = exists
    ? "This key is known already."
    : "The browser did not use a key: it was cancelled, or it knows none for this site. Try again, or another way.";
  document.getElementById("messages").replaceChildren(said);
});
