// Buttons that copy a setting. Without this module there are none, and the settings can be selected
// as any other text.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";

async function copy(source) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(source.textContent);
    return;
  }
  // A page without TLS has no navigator.clipboard.
  getSelection().selectAllChildren(source);
  if (!document.execCommand("copy")) throw new Error("copy refused");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    const what = byId(button.getAttribute("aria-describedby")).textContent;
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
