// How long ago the times on a page were, or how long it is until then, when the server made the page: the clock of the
// device counts for nothing. Without this module the times are those of the page, in UTC.

import { say, locale } from "./texts.js";

const format = new Intl.RelativeTimeFormat(locale);

/** How far a time is, in words. Its seconds are negative if it has passed. */
function ago(seconds) {
  if (Math.abs(seconds) < 60) return say(seconds > 0 ? "ago_future" : "ago_past");
  const minutes = Math.round(seconds / 60);
  const distance = Math.abs(minutes);
  if (distance < 60) return format.format(minutes, "minute");
  if (distance < 24 * 60) return format.format(Math.round(minutes / 60), "hour");
  return format.format(Math.round(minutes / 60 / 24), "day");
}

/** How long ago a time was that is not exact. */
const about = (seconds) => (seconds > -60 ? ago(seconds) : say("ago_about", { ago: ago(seconds) }));

for (const time of document.querySelectorAll("main time")) {
  const { form, seconds } = time.dataset;
  if (form === "ago_about") time.textContent = about(Math.min(seconds, 0)); // another server may be ahead
  else time.textContent = say(form, { ago: ago(Number(seconds)), when: time.textContent });
}
