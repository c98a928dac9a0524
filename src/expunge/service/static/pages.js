// Says in the page's status line what a request that was made without leaving the page came to.
"use strict";
(() => {
  const said = document.getElementById("said");
  const trouble = document.getElementById("trouble");
  const tell = (text) => {
    if (trouble) {
      trouble.textContent = text;
      trouble.hidden = text === "";
    }
  };
  document.addEventListener("htmx:responseError", (event) => {
    tell(`The server answered ${event.detail.xhr.status}; what is shown may be out of date. Load the page again.`);
  });
  document.addEventListener("htmx:sendError", () => {
    tell("The server cannot be reached; what is shown may be out of date.");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) tell("");
  });
  // A part that was asked for by hand is read from its heading on.
  document.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.elt.querySelector?.("[data-focus]") ?? null;
    if (target) target.focus();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(
      () => { said.textContent = "Copied."; },
      () => { said.textContent = "The browser did not allow to copy; select the text."; },
    );
  });
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
})();
