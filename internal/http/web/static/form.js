// A form that its script sends.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";
import { showProblems } from "./problems.js";
import { codeProblem } from "./code.js";

let sent; // the form that was sent last

/**
 * Enables the form and calls submit when it is sent, once at a time. submit calls its argument when
 * it starts to wait, and the form then says that it is busy. The button keeps the focus, which a
 * disabled one would lose. A page may have several forms.
 */
export function onSubmit(form, submit) {
  const button = form.querySelector('[type="submit"]');
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
    const wrong = codeProblem(form);
    if (wrong) {
      showProblems([wrong]);
      return;
    }
    running = true;
    sent = form;
    try {
      await submit(showBusy);
    } finally {
      running = false;
      form.removeAttribute("aria-busy");
      button.removeAttribute("aria-disabled");
      if (button.textContent === say("busy")) button.textContent = label;
      if (byId("status").textContent === say("busy")) announce("");
    }
  });
  byId("stalled")?.remove();
  button.disabled = false;
}

byId("retry")?.addEventListener("click", () => {
  sent.querySelector('[type="submit"]').focus();
  sent.requestSubmit();
});

/** Says that this browser cannot compute the keys. The button stays disabled. */
export function refuse() {
  byId("stalled")?.remove();
  showProblems([{ text: say("broken") }]);
}
