// Copy buttons. Without this module there are none, and the settings can be selected as any text.

import { say, announce } from "./form.js";

async function copy(source) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(source.textContent);
    return;
  }
  // A plain http page has no clipboard of the modern kind.
  getSelection().selectAllChildren(source);
  if (!document.execCommand("copy")) throw new Error("copy refused");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const what = document.getElementById(button.getAttribute("aria-describedby")).textContent;
    try {
      await copy(source);
      button.textContent = say("copied");
      announce(say("copied_what", { what }));
    } catch {
      getSelection().selectAllChildren(source);
      announce(say("copy_failed"));
    }
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = say("copy"); }, 2000);
  });
}
