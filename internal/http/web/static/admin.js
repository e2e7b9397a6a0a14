// The pages for operators. They work without this script.

import "./ago.js";
import "./copy.js";
import { announce, byId } from "./page.js";
import { notice } from "./notice.js";

if (notice) announce(notice.textContent);
byId("problem")?.focus();

// On a small screen, the list comes before filters that are not in use.
const filters = byId("more-filters");
if (filters && !("used" in filters.dataset) && matchMedia("(max-width: 40rem)").matches) filters.open = false;

// A bulk change that is not ready yet is looked at again, unless the person is about to do something.
const waiting = document.querySelector("[data-again]");
if (waiting) {
  setTimeout(function look() {
    if (document.activeElement.matches("button, input, a")) setTimeout(look, 1000);
    else location.reload();
  }, Number(waiting.dataset.again));
}

// The preview follows the form.
const preview = byId("preview-do");
if (preview) {
  let timer;
  preview.form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => preview.form.requestSubmit(preview), 400);
  });
}
