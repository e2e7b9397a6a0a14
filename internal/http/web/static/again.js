// Loads a page with a link for a phone again before the link expires. What the person has opened stays
// open, and the page stays where it was scrolled to.

import { byId } from "./page.js";
import { keepPlace } from "./storage.js";

const { again, seconds } = byId("again").dataset;
const life = Number(seconds) * 1000;
const due = Date.now() + life;
const saveScroll = keepPlace();

// The answer to a form would be requested again with the form, after a question to the person.
if (location.pathname + location.search !== again) history.replaceState(null, "", again);

function renew() {
  saveScroll();
  location.replace(again);
}

if (life > 0) {
  setTimeout(renew, life);
  // Timers stand still while the device sleeps.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() >= due) renew();
  });
  byId("renew")?.addEventListener("click", (event) => {
    event.preventDefault();
    renew();
  });
}
