// The panel of whoever waits for the message: to have it sent again, and to another address if that was wrong. It proves the
// password with the keys that the page has made, so that the page need not keep the password for it.

import { say, write, announce, limited } from "./form.js";
import { exchange } from "./exchange.js";

const byId = (id) => document.getElementById(id);
const pause = 60_000;
const times = 3; // a day: what the server grants at most

/** Shows the panel for an account. Where wait is set, a message has just left. sent is told where a newer one went. */
export function offerResend(user, { ha1, ha1_sha256 }, { wait, sent }) {
  const who = { user, held: { "MD5": ha1, "SHA-256": ha1_sha256 } };
  const [again, mend, input, error] = ["again", "mend", "mend-email", "mend-email-error"].map(byId);
  let left = times;
  let busy = false;
  let timer;

  const tell = (key, slots) => {
    write(byId("again-note"), key, slots);
    announce(byId("again-note").textContent);
  };
  // The button keeps the focus: a disabled one would lose it.
  const rest = () => {
    clearTimeout(timer);
    again.setAttribute("aria-disabled", "true");
    if (left > 0) timer = setTimeout(() => again.removeAttribute("aria-disabled"), pause);
  };
  const wrong = (key) => {
    error.textContent = key ? say(key) : "";
    error.hidden = !key;
    if (!key) {
      input.removeAttribute("aria-invalid");
      return;
    }
    input.setAttribute("aria-invalid", "true");
    input.focus();
  };

  async function ask(email) {
    if (busy) return;
    busy = true;
    wrong();
    tell("again_busy");
    let answer;
    try {
      answer = await exchange("/resend.ashx", who, { method: "POST", body: email ? new URLSearchParams({ email }) : undefined });
    } catch {
      answer = { body: {} };
    } finally {
      busy = false;
    }
    const { status, headers, body, proven } = answer;
    if (status === 200 && body.ok === true) {
      left--;
      byId("wrong").open = false;
      input.value = "";
      tell(left > 0 ? "again_sent" : "again_last", { email: email || body.email });
      sent?.(email || body.email);
      rest();
      if (email) again.focus();
    } else if (status === 429) {
      byId("again-note").textContent = limited(headers, "again_limited");
      announce(byId("again-note").textContent);
    } else if (body.error === "conflict") {
      tell("again_active");
    } else if (status === 401 && proven) {
      tell("again_denied");
    } else if (status === 400 && email) {
      byId("again-note").textContent = "";
      wrong("mend_refused");
    } else {
      tell("again_failed");
    }
  }

  again.addEventListener("click", () => {
    if (again.getAttribute("aria-disabled") !== "true") ask("");
  });
  mend.addEventListener("submit", (event) => {
    event.preventDefault();
    const email = input.value.trim();
    if (/^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/.test(email)) ask(email);
    else wrong("mend_shape");
  });
  if (wait) {
    write(byId("again-note"), "again_wait");
    rest();
  }
  byId("resend").hidden = false;
}
