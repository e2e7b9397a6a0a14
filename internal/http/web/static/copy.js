// Buttons that copy a setting, or all settings of a list. Without this module there are none, and the
// settings can be selected as any other text.

import { byId, announce } from "./page.js";
import { say } from "./texts.js";

/** The settings of a list as lines of text. */
function lines(list) {
  return [...list.querySelectorAll("[id^=v-]")].map((value) => {
    const label = byId(`t-${value.id.slice(2)}`).textContent;
    return `${label}: ${value.textContent}`;
  }).join("\n");
}

async function copy(text, source) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // A page without TLS has no navigator.clipboard.
  getSelection().selectAllChildren(source);
  if (!document.execCommand("copy")) throw new Error("copy refused");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  const word = button.querySelector(".word");
  const label = word.textContent;
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    const list = source.matches("dl");
    const what = list ? byId("t-all").textContent : byId(button.getAttribute("aria-describedby")).textContent;
    try {
      await copy(list ? lines(source) : source.textContent, source);
      word.textContent = say("copied");
      announce(say("copied_what", { what }));
    } catch {
      getSelection().selectAllChildren(source);
      announce(say("copy_failed"));
    }
    clearTimeout(timer);
    timer = setTimeout(() => { word.textContent = label; }, 2000);
  });
}
