// A form that its script sends.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";
import { showProblems } from "./problems.js";

/**
 * Enables the form and calls submit when it is sent, once at a time. submit calls its argument when
 * it starts to wait, and the form then says that it is busy. The button keeps the focus, which a
 * disabled one would lose.
 */
export function onSubmit(form, submit) {
  const button = byId("submit");
  let label = button.textContent;
  let running = false;
  const showBusy = () => {
    label = button.textContent;
    form.setAttribute("aria-busy", "true");
    button.setAttribute("aria-disabled", "true");
    button.textContent = say("busy");
    announce(say("busy"));
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = true;
    try {
      await submit(showBusy);
    } finally {
      running = false;
      form.removeAttribute("aria-busy");
      button.removeAttribute("aria-disabled");
      if (button.textContent === say("busy")) button.textContent = label;
    }
  });
  byId("retry").addEventListener("click", () => {
    button.focus();
    form.requestSubmit();
  });
  byId("stalled").remove();
  button.disabled = false;
}

/** Says that this browser cannot compute the keys. The button stays disabled. */
export function refuse() {
  byId("stalled").remove();
  showProblems([{ text: say("broken") }]);
}
