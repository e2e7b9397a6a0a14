// The sign-in form. A right password for an account that is not active yet shows the panel that
// sends the message again, and one for an account whose owner has left says so.

import { byId, showPanel } from "./page.js";
import { say, writeBreakable } from "./texts.js";
import { moment } from "./moment.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { userName, userProblem, offerNames } from "./fields.js";
import { exchange, exchangeTyped } from "./exchange.js";
import { remember, remembered, forget, keepTyped } from "./storage.js";
import { keys, sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { offerResend } from "./resend.js";
import { isRecoveryCode } from "./code.js";

// The text for a delivery state that the person should know before looking for the message.
const deliveryTexts = new Map([
  ["failed", "mail_failed"], ["discarded", "mail_failed"], ["deferred", "mail_deferred"],
]);

function showInactive(user, password, { email = "", delivery }) {
  const made = keys(user, byId("login").dataset.realm, password);
  const showAddress = (address) => { writeBreakable(byId("inactive-email"), address); };
  const notice = byId("inactive-mail");
  const text = deliveryTexts.get(delivery);
  showAddress(email);
  if (text) {
    notice.firstElementChild.textContent = say(text);
    notice.hidden = false;
    byId("wrong").open = true;
    byId("inactive-spam").hidden = text === "mail_failed";
  }
  offerResend(user, made, {
    sent(address) {
      showAddress(address);
      notice.hidden = true;
      byId("inactive-spam").hidden = false;
    },
  });
  showPanel("inactive");
}

/** Says that the owner of the account has left, and how to keep it. The page for a new password has the name. */
function showLeaving(user, { since, until, email }) {
  remember(user);
  byId("leaving-since").textContent = moment(new Date(since));
  byId("leaving-until").textContent = moment(new Date(until));
  writeBreakable(byId("leaving-email"), email);
  showPanel("leaving");
}

/**
 * Sends the token of a link that was opened in this tab, with a proof of the password that was just
 * right.
 */
async function confirmLink(user, password) {
  const { token } = remembered();
  if (!token) return false;
  try {
    const body = new URLSearchParams({ token });
    const { status } = await exchange("/activate.ashx", { user, password }, { method: "POST", body });
    return status === 200;
  } catch {
    // Without an answer the account stays unconfirmed. The person is signed in all the same.
    return false;
  }
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const user = userName();
  const typed = byId("password").value;
  const problems = [];
  const wrong = userProblem(user);
  offerNames(wrong === "user_upper" ? [user.toLowerCase()] : []);
  if (wrong) problems.push({ field: "user", text: say(wrong) });
  if (!typed) problems.push({ field: "password", text: say("password_empty") });
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const { next, recovery } = byId("login").dataset;
  const after = isRecoveryCode() ? recovery : next;
  let answer = await answerTo(exchangeTyped("/signin.ashx", { user, password: typed }));
  // Wrong guesses by others may have locked this name. A person with its link can still sign in.
  if (answer?.status === 429 && await confirmLink(user, typed)) {
    answer = await answerTo(exchangeTyped("/signin.ashx", { user, password: typed }));
  }
  if (!answer) return;
  const { status, body, proven, password } = answer;
  if (status === 200 && body.ok === true && proven) {
    await confirmLink(user, password);
    forget();
    location.assign(after);
    // The form stays busy until the next page replaces it. Going back must not show the password
    // again.
    await new Promise((left) => { addEventListener("pagehide", left, { once: true }); });
    byId("password").value = "";
  } else if (status === 401 && proven) {
    showProblems([{ text: say("wrong") }]);
  } else if (body.error === "not_activated") {
    showInactive(user, password, body);
  } else if (body.error === "leaving") {
    showLeaving(user, body);
  } else {
    showFailure(answer);
  }
}

/** Puts the focus on the first field that is empty. */
export const focusFirst = () =>
  ["user", "password"].map(byId).find((input) => input.value === "")?.focus({ preventScroll: true });

/** Starts the form, and reports whether this browser can compute its keys. */
export function startSignIn() {
  if (!sound) {
    refuse();
    return false;
  }
  attach();
  byId("user").value ||= remembered().user;
  keepTyped("user");
  // The name need not be typed again on the page for a forgotten password.
  for (const link of document.querySelectorAll('main a[href^="/forgot.html"]')) {
    link.addEventListener("click", () => {
      if (byId("user") && userName()) remember(userName());
    });
  }
  onSubmit(byId("login"), submit);
  focusFirst();
  return true;
}
