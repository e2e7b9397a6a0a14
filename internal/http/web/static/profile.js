// The page with a form for the name and the language, which the session is enough for, and one for the
// e-mail address, which proves the password.

import { byId, showPanel } from "./page.js";
import { say, has, writeBreakable } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { send } from "./http.js";
import { exchangeTyped } from "./exchange.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { isEmail } from "./fields.js";
import { saveTyped, restoreTyped } from "./storage.js";

const profile = byId("profile");
const { email: present } = byId("email-form").dataset;

/** Returns the problem that a refusal of the server names by field and rule. */
function refusal(headers, fields) {
  const [field, rule] = (headers.get("Dialtone-Rule") ?? "").split(".");
  if (!fields.includes(field)) return { text: say("invalid_request") };
  const key = `${field}_${rule}`;
  return { field, text: say(has(key) ? key : "refused") };
}

/** Loads the page again with what was saved. Another language becomes that of the page. */
async function showSaved(lang) {
  const next = new URL(profile.dataset.saved, location.href);
  if (lang !== profile.dataset.lang) next.searchParams.set("lang", lang);
  next.search = [next.search.slice(1), "saved"].filter(Boolean).join("&");
  location.replace(next);
  await new Promise((left) => { addEventListener("pagehide", left, { once: true }); });
}

/** Leads to the page for signing in, and from there back to the form as it is. */
async function signInAgain() {
  saveTyped(byId("user").value, "name", "lang");
  location.assign(profile.dataset.signin);
  await new Promise((left) => { addEventListener("pagehide", left, { once: true }); });
}

async function save(showBusy) {
  clearProblems();
  if (!byId("name").value.trim()) {
    showProblems([{ field: "name", text: say("name_empty") }]);
    return;
  }
  showBusy();
  const answer = await answerTo(send("/profile.ashx", {
    method: "POST", body: new URLSearchParams(new FormData(profile)), headers: { "X-Requested-With": "fetch" },
  }));
  if (!answer) return;
  const { status, headers, body } = answer;
  if (status === 200 && body.ok === true) await showSaved(body.lang);
  else if (status === 401) await signInAgain();
  else if (status === 400) showProblems([refusal(headers, ["name", "lang"])]);
  else showFailure(answer);
}

function showMailed(email) {
  addEventListener("popstate", () => location.reload());
  writeBreakable(byId("mailed-email"), email);
  showPanel("mailed");
}

/** Returns the problems that the page can find without the server. */
function check(email, current) {
  const problems = [];
  const key = email === "" ? "email_empty" : email === present ? "email_same" : isEmail(email) ? "" : "email_shape";
  if (key) problems.push({ field: "email", text: say(key) });
  if (!current) problems.push({ field: "current", text: say("current_empty") });
  return problems;
}

async function sendLink(showBusy) {
  conceal();
  clearProblems();
  const email = byId("email").value.trim();
  const password = byId("current").value;
  const problems = check(email, password);
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const answer = await answerTo(exchangeTyped("/email.ashx", { user: byId("user").value, password },
    { method: "POST", body: new URLSearchParams({ email }) }));
  if (!answer) return;
  const { status, headers, proven, body } = answer;
  if (status === 200 && body.ok === true && proven) {
    // Password managers take a hidden form and a new address as the signs that the form was accepted.
    byId("start").hidden = true;
    history.pushState({ mailed: email }, "", "#mailed");
    showMailed(email);
  } else if (status === 401 && proven) {
    showProblems([{ field: "current", text: say("current_wrong") }]);
  } else if (status === 400) {
    showProblems([refusal(headers, ["email"])]);
  } else {
    showFailure(answer);
  }
}

if (location.hash === "#mailed" && history.state?.mailed) {
  showMailed(history.state.mailed);
} else {
  // Loaded again, the page does not say so.
  const kept = new URL(profile.dataset.saved, location.href);
  if (location.href !== kept.href) history.replaceState(null, "", kept);
  restoreTyped(byId("user").value);
  onSubmit(profile, save);
  if (sound) {
    attach();
    onSubmit(byId("email-form"), sendLink);
  } else {
    refuse();
  }
  const saved = byId("saved");
  if (saved) addEventListener("load", () => saved.focus({ preventScroll: true }), { once: true });
}
