// The panel that sends the activation message again, also to a corrected address. It proves the
// password with the keys that the page has computed, so that the page need not keep the password.

import { byId, announce } from "./page.js";
import { say, write } from "./texts.js";
import { isEmail } from "./fields.js";
import { rateLimit } from "./failures.js";
import { exchange } from "./exchange.js";
import { rememberSent, sentAt } from "./storage.js";

const pause = 60_000; // between two messages
const dailyLimit = 3; // the server sends no more

/**
 * Shows the panel for an account. The button pauses first if this tab had a message sent to the account
 * less than a minute ago. address is the address that the person has typed, if the page has it: the server shows only
 * part of one. sent, if there is one, is called with the address of each new message.
 */
export function offerResend(user, { ha1, ha1_sha256 }, { address, sent }) {
  const who = { user, held: { "MD5": ha1, "SHA-256": ha1_sha256 } };
  const [again, note, countdown] = ["again", "again-note", "again-left"].map(byId);
  const [form, input, error] = ["correct", "correct-email", "correct-email-error"].map(byId);
  let left = dailyLimit;
  let busy = false;
  let timer;
  let ticker;

  const show = (key, slots) => {
    write(note, key, slots);
    announce(note.textContent);
  };
  // The button keeps the focus, which a disabled one would lose.
  const startPause = (length) => {
    endPause();
    again.setAttribute("aria-disabled", "true");
    if (left === 0) return;
    const end = Date.now() + length;
    const finish = () => {
      endPause();
      announce(say("again_ready"));
    };
    const tick = () => {
      const seconds = Math.ceil((end - Date.now()) / 1000);
      if (seconds <= 0) {
        finish(); // after sleep, before the timer
        return;
      }
      countdown.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    };
    timer = setTimeout(finish, length);
    ticker = setInterval(tick, 500);
    tick();
  };
  const endPause = () => {
    clearTimeout(timer);
    clearInterval(ticker);
    countdown.textContent = "";
    again.removeAttribute("aria-disabled");
  };
  const clearInvalid = () => {
    error.textContent = "";
    error.hidden = true;
    input.removeAttribute("aria-invalid");
  };
  const showInvalid = (key) => {
    error.textContent = say(key);
    error.hidden = false;
    input.setAttribute("aria-invalid", "true");
    input.focus();
  };

  async function resend(email) {
    if (busy) return;
    busy = true;
    clearInvalid();
    show("again_busy");
    let answer;
    try {
      const body = email ? new URLSearchParams({ email }) : undefined;
      answer = await exchange("/resend.ashx", who, { method: "POST", body });
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
      address = email || address;
      show(left > 0 ? "again_sent" : "again_last", { email: address ?? body.email });
      sent?.(address ?? body.email);
      rememberSent(user);
      startPause(pause);
      if (email) again.focus();
    } else if (status === 429) {
      note.textContent = rateLimit(headers, "again_limited");
      announce(note.textContent);
    } else if (body.error === "conflict") {
      show("again_active");
    } else if (status === 401 && proven) {
      show("again_denied");
    } else if (status === 400 && email) {
      note.textContent = "";
      showInvalid("correct_refused");
    } else {
      show("again_failed");
    }
  }

  again.addEventListener("click", () => {
    if (again.getAttribute("aria-disabled") !== "true") resend("");
  });
  input.addEventListener("input", clearInvalid);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const email = input.value.trim();
    if (isEmail(email)) resend(email);
    else showInvalid("correct_shape");
  });
  const rest = Math.ceil((sentAt(user) + pause - Date.now()) / 1000) * 1000; // in whole seconds
  if (rest > 0) startPause(Math.min(rest, pause));
  byId("resend").hidden = false;
}
