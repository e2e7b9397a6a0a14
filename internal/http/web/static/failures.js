// What a form shows for requests that fail in the ways that all requests can.

import { say, has, locale } from "./texts.js";
import { showProblems } from "./problems.js";
import { askCode } from "./code.js";

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
  // In Arabic, the browser's word for "in" means "within" after an imperative. The other one means "after".
  return say(key, { wait: wait.replace(/^خلال /, "بعد "), time: clock(new Date(Date.now() + seconds * 1000)) });
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
  "changes.password": "rate_password", "changes.email": "rate_email", "changes.link": "rate_link",
  "code.limit": "rate_code", factors: "rate_factors", leave: "rate_leave", codes: "rate_codes",
};

/** The keys of the texts for accounts that need a second factor, by Dialtone-Rule. */
const factors = { passkey: "passkey_needed", factor: "factor_needed" };

/**
 * Shows an answer that says nothing about the form: a rate limit, an account whose owner has left, an overloaded
 * server, or a fault. If the
 * server asks for a code, it shows the field for that.
 */
export function showFailure(answer) {
  const { status, headers } = answer;
  const rule = headers.get("Dialtone-Rule");
  if (askCode(answer)) return;
  if (answer.body.error === "leaving") {
    const { since, email } = answer.body;
    showProblems([{ text: say("left", { time: clock(new Date(since)), email }) }]);
    return;
  }
  if (status === 403 && factors[rule]) {
    showProblems([{ text: say(factors[rule]) }]);
    return;
  }
  const own = limits[rule];
  const key = own && has(own) ? own : "rate_limited";
  if (status === 429) showProblems([{ text: rateLimit(headers, key) }]);
  else showProblems([{ text: say(status === 503 ? "overloaded" : "server_error") }], { retry: true });
}
