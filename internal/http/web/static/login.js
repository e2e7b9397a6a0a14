// The sign-in form. Whoever has the right password and has not opened the link is offered the message once more.

import { say, userName, userProblem, limited, showProblems, clearProblems, onSubmit, keepTyped, refuse } from "./form.js";
import { exchange } from "./exchange.js";
import { left, forget } from "./link.js";
import { keys, sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { offerResend } from "./resend.js";

const byId = (id) => document.getElementById(id);

// What became of the message, where the person should know before looking for it.
const troubles = new Map([["failed", "mail_failed"], ["discarded", "mail_failed"], ["deferred", "mail_deferred"]]);

function inactive(user, password, { email = "", delivery }) {
  const made = keys(user, byId("login").dataset.realm, password);
  byId("start").remove();
  byId("languages")?.remove(); // it would lead back to an empty form
  const show = (address) => { byId("inactive-email").textContent = address; };
  show(email);
  const trouble = troubles.get(delivery);
  const mail = byId("inactive-mail");
  if (trouble) {
    mail.firstElementChild.textContent = say(trouble);
    mail.hidden = false;
    byId("wrong").open = true;
    byId("inactive-spam").hidden = trouble === "mail_failed";
  }
  offerResend(user, made, {
    sent(address) {
      show(address);
      mail.hidden = true;
      byId("inactive-spam").hidden = false;
    },
  });
  byId("inactive").hidden = false;
  const title = byId("inactive-title");
  document.title = document.title.replace(/^[^–]*/, `${title.textContent} `);
  scrollTo(0, 0);
  title.focus();
}

/** Hands the token of a link that was opened in this tab over, with a proof of the password that has just been right. */
async function handOver(user, password) {
  const { token } = left();
  if (!token) return;
  try {
    await exchange("/activate.ashx", { user, password }, { method: "POST", body: new URLSearchParams({ token }) });
  } catch {
    // Without an answer the account stays unconfirmed, which is no reason to keep anybody here.
  }
}

async function submit(busy) {
  conceal();
  clearProblems();
  const user = userName();
  const password = byId("password").value;
  const problems = [];
  const wrong = userProblem(user);
  if (wrong) problems.push({ field: "user", text: say(wrong) });
  if (!password) problems.push({ field: "password", text: say("password_empty") });
  if (problems.length) {
    showProblems(problems);
    return;
  }
  busy();
  let answer;
  try {
    answer = await exchange("/signin.ashx", { user, password });
  } catch {
    showProblems([{ text: say("unreachable") }], { retry: true });
    return;
  }
  const { status, headers, body, proven } = answer;
  if (status === 200 && body.ok === true && proven) {
    await handOver(user, password);
    forget();
    location.assign(byId("login").dataset.next);
    // The page stays busy until the next one is here. Going back to it must not bring the password back.
    await new Promise((done) => { addEventListener("pagehide", done, { once: true }); });
    byId("password").value = "";
  } else if (status === 401 && proven) {
    showProblems([{ text: say("wrong") }]);
  } else if (body.error === "not_activated") {
    inactive(user, password, body);
  } else if (status === 429) {
    showProblems([{ text: limited(headers) }]);
  } else if (status === 503) {
    showProblems([{ text: say("overloaded") }], { retry: true });
  } else {
    showProblems([{ text: say("server_error") }], { retry: true });
  }
}

if (sound) {
  attach();
  byId("user").value ||= left().user;
  keepTyped("user");
  onSubmit(byId("login"), submit);
} else {
  refuse();
}
