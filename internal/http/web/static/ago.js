// How long ago the times on a page were, or how long it is until then. Without this module the times are those of the
// page, in UTC.

import { say, locale } from "./texts.js";

const format = new Intl.RelativeTimeFormat(locale);

/** How long ago a date was, or how far it is, in words. One in the next minutes was now, by a clock that is ahead. */
function ago(date) {
  const minutes = Math.round((date - Date.now()) / 60_000);
  const distance = Math.abs(minutes);
  if (minutes > -1 && minutes < 3) return format.format(-1, "minute");
  if (distance < 60) return format.format(minutes, "minute");
  if (distance < 24 * 60) return format.format(Math.round(minutes / 60), "hour");
  return format.format(Math.round(minutes / 60 / 24), "day");
}

for (const time of document.querySelectorAll("main time")) {
  time.textContent = say("ago", { ago: ago(new Date(time.dateTime)), when: time.textContent });
}
