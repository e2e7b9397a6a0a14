// What a form shows for requests that fail in the ways that all requests can.

import { say, has, locale } from "./texts.js";
import { showProblems } from "./problems.js";

/** A point in time in words: the time of day, with the date if that is another day. */
function clock(date) {
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString(locale, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

/**
 * The text for a 429: how long to wait and until when, if Retry-After says so. The text without a
 * time has the key `${key}_open`.
 */
export function rateLimit(headers, key = "rate_limited") {
  const seconds = Number(headers.get("Retry-After"));
  if (!(seconds > 0)) return say(`${key}_open`);
  const minutes = Math.ceil(seconds / 60);
  const format = new Intl.RelativeTimeFormat(locale);
  const wait = minutes < 120 ? format.format(minutes, "minute") : format.format(Math.ceil(minutes / 60), "hour");
  return say(key, { wait, time: clock(new Date(Date.now() + seconds * 1000)) });
}

/** Shows that no usable answer came, and offers to send the form again. */
export function showUnreachable() {
  showProblems([{ text: say("unreachable") }], { retry: true });
}

/** Returns the answer to a request, or undefined after showing that none came. */
export async function answerTo(request) {
  try {
    return await request;
  } catch {
    showUnreachable();
    return undefined;
  }
}

/** The keys of the texts for limits that have their own, by Dialtone-Rule. */
const limits = {
  accounts: "rate_accounts", platform: "rate_platform", recipient: "rate_recipient",
  name: "rate_name", device: "rate_device", changes: "rate_changes",
};

/**
 * Shows an answer that says nothing about the form: a rate limit, an overloaded server, or a fault.
 */
export function showFailure({ status, headers }) {
  const own = limits[headers.get("Dialtone-Rule")];
  const key = own && has(own) ? own : "rate_limited";
  if (status === 429) showProblems([{ text: rateLimit(headers, key) }]);
  else showProblems([{ text: say(status === 503 ? "overloaded" : "server_error") }], { retry: true });
}
