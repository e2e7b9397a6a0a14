// A moment in the words of the message: in UTC, since nobody knows where the message is read.

import { say } from "./texts.js";

const word = (key, index) => say(key).split(" ")[index];

/** Returns a date and a time of day in the page's language. */
export function moment(date) {
  return say("moment", {
    weekday: word("weekdays", date.getUTCDay()),
    day: date.getUTCDate() > 1 ? String(date.getUTCDate()) : say("first"),
    month: word("months", date.getUTCMonth()),
    year: String(date.getUTCFullYear()),
    time: date.toISOString().slice(11, 16),
  });
}
