// The pages for operators. They work without this script.

import "./copy.js";
import "./ago.js";
import { byId } from "./page.js";
import "./notice.js";

// The answer to a form would be requested again with the form, after a question to the person.
const { address } = document.querySelector(".parts")?.dataset ?? {};
if (address) history.replaceState(null, "", address);

(byId("problem") ?? byId("link-made"))?.focus();

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
  const show = () => preview.form.requestSubmit(preview);
  preview.form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 400);
  });
  byId("preview-of").addEventListener("input", show);
  if (byId("problem")) show();
}
