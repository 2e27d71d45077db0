"use strict";
// Keys press the buttons that name them; without this script the buttons work alone.
(() => {
  let sent = false;
  for (const form of document.forms) {
    form.addEventListener("submit", (event) => {
      // A second press must not reach the next answer, nor change this label.
      if (sent) event.preventDefault();
      sent = true;
      const button = event.submitter;
      if (button?.dataset.busy) {
        document.getElementById("status").textContent = button.dataset.busy;
        button.textContent = button.dataset.busy;
      }
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    // Enter on a button or a fold is the browser's own.
    if (event.key === "Enter" && event.target.closest("button, summary")) return;
    for (const button of document.querySelectorAll("button[data-key]")) {
      if (button.dataset.key === event.key && !button.disabled) {
        event.preventDefault();
        button.click();
        return;
      }
    }
  });
  addEventListener("pageshow", () => { sent = false; });
})();
