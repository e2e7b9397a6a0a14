// The sign-up form. It checks the fields, computes the keys from them when it is sent, and sends
// the keys.

import { byId, announce, showPanel } from "./page.js";
import { say, has, write, writeBreakable } from "./texts.js";
import { moment } from "./moment.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure, showUnreachable } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { userName, userProblem, offerNames, isEmail } from "./fields.js";
import { send } from "./http.js";
import { remember, rememberSent, keepTyped } from "./storage.js";
import { keys, sound } from "./keys.js";
import { attach, conceal } from "./password.js";
import { attachMeter, attachNote, count, passwordProblem } from "./newpassword.js";
import { offerResend } from "./resend.js";

const form = byId("signup");
const value = (id) => byId(id).value;

// A token is valid for 15 minutes. The question is replaced before that, so that nobody answers an
// expired one.
const captchaLife = 13 * 60 * 1000;
let token = "";
let captchaTimer;
let captchaTurn = 0;

/** Fetches a new question and reports whether one came. Of several calls the last one counts. */
async function newQuestion() {
  const turn = ++captchaTurn;
  clearTimeout(captchaTimer);
  token = "";
  byId("captcha_answer").value = "";
  let answer;
  try {
    answer = await send("/captcha.ashx");
  } catch {
    answer = { body: {} };
  }
  if (turn !== captchaTurn) return true;
  const { question: sum, token: fresh } = answer.body;
  const valid = typeof sum === "string" && typeof fresh === "string";
  write(byId("question"), valid ? "question" : "question_lost", { sum });
  token = valid ? fresh : "";
  if (valid) captchaTimer = setTimeout(renew, captchaLife);
  return valid;
}

/** Replaces an old question. It says so only if that removes an answer. */
async function renew() {
  const answered = value("captcha_answer") !== "";
  if (!await newQuestion() || !answered) return;
  byId("captcha_answer-hint").textContent = say("captcha_old");
  announce(say("captcha_old"));
}

/** Words that make this person's password weak. */
const personal = () => [
  value("user"), ...value("name").split(/\s+/), ...value("email").split(/[@.]/), form.dataset.realm,
];

/** Three other names for one that is taken. */
function otherNames(user, name) {
  const plain = (text) => text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9 ]/g, "");
  const [first = "", ...rest] = plain(name).split(" ").filter(Boolean);
  const last = rest.at(-1) ?? "";
  const digits = () => String(10 + Math.floor(Math.random() * 90));
  const stem = user.slice(0, 60);
  const ideas = [
    last && `${first}.${last}`, last && `${first[0]}.${last}`,
    stem + digits(), `${stem}.${digits()}`, `${stem}-${digits()}`,
  ];
  const fit = ideas.filter((idea) => idea && idea !== user && idea.length <= 64 && !userProblem(idea));
  return [...new Set(fit)].slice(0, 3);
}

/** Returns the problems that the page can find without the server. */
function check() {
  const problems = [];
  const add = (field, key, slots) => problems.push({ field, text: say(key, slots) });
  const user = userName();
  const wrong = userProblem(user) ?? (user.length > 64 ? "user_long" : undefined);
  if (wrong) add("user", wrong);
  offerNames(wrong === "user_upper" ? [user.toLowerCase()] : []);
  const name = value("name").trim();
  if (!name) add("name", "name_empty");
  else if (count(name.normalize("NFC")) > 120) add("name", "name_long");
  const email = value("email").trim();
  if (!email) add("email", "email_empty");
  else if (!isEmail(email)) add("email", "email_shape");
  const weak = passwordProblem(value("password"), user, personal());
  if (weak) problems.push({ field: "password", text: weak });
  if (!/^[\s\p{Bidi_C}]*\p{Nd}+[\s\p{Bidi_C}]*$/u.test(value("captcha_answer"))) {
    add("captcha_answer", token ? "captcha_empty" : "captcha_lost");
  }
  return problems;
}

// The fields of the page by the fields of the request.
const inputs = {
  user: "user", name: "name", email: "email", captcha_answer: "captcha_answer",
  ha1: "password", ha1b: "password", ha1_sha256: "password",
};

/**
 * Returns the problem that a refusal of the server names by field and rule, in this page's
 * language.
 */
function refusal(headers) {
  const [field, rule] = (headers.get("Dialtone-Rule") ?? "").split(".");
  if (!Object.hasOwn(inputs, field)) return { text: say("invalid_request") };
  const key = `${inputs[field]}_${rule}`;
  return { field: inputs[field], text: say(has(key) ? key : "refused") };
}

/** When a link expires that was sent with an answer. The clock of this device may be wrong. */
const expiry = (headers) =>
  new Date((Date.parse(headers.get("Date")) || Date.now()) + 7 * 24 * 60 * 60 * 1000);

/**
 * Shows the panel that says where the message went. keys are missing after a reload: the page keeps
 * neither them nor the password, and resending then needs a sign-in.
 */
function showSent({ user, email, until }, made) {
  writeBreakable(byId("sent-to"), email);
  writeBreakable(byId("sent-user"), user);
  byId("sent-until").textContent = moment(new Date(until));
  if (made) {
    offerResend(user, made, {
      address: email,
      sent(address) {
        writeBreakable(byId("sent-to"), address);
        history.replaceState({ user, email: address, until }, "");
      },
    });
  }
  byId("sent-signin").hidden = Boolean(made);
  clearTimeout(captchaTimer);
  captchaTurn++;
  remember(user);
  addEventListener("popstate", () => location.reload());
  showPanel("sent");
}

function succeed(user, email, made, until) {
  const state = { user, email, until: until.getTime() };
  // Password managers take a hidden form and a new address as the signs that the form was accepted.
  byId("start").hidden = true;
  history.pushState(state, "", "#sent");
  rememberSent(user);
  showSent(state, made);
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const problems = check();
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const [user, name, email] = [userName(), value("name").trim(), value("email").trim()];
  const made = keys(user, form.dataset.realm, value("password"));
  const fields = new URLSearchParams({
    user,
    name,
    email,
    ...made,
    captcha_token: token,
    captcha_answer: value("captcha_answer").trim(),
    lang: document.documentElement.lang,
  });
  const answer = await answerTo(send("/signup.ashx", { method: "POST", body: fields }));
  if (!answer) return;
  const { status, headers, body } = answer;
  if (status === 200 && body.ok === true) {
    succeed(user, email, made, expiry(headers));
  } else if (body.error === "captcha_failed") {
    await newQuestion();
    showProblems([{ field: "captcha_answer", text: say("captcha_failed") }]);
  } else if (body.error === "conflict") {
    await newQuestion();
    offerNames(otherNames(user, name));
    showProblems([{ field: "user", text: say("conflict") }]);
  } else if (body.error === "invalid_request") {
    showProblems([refusal(headers)]);
  } else if (body.error === "signups_closed") {
    showProblems([{ text: say("closed") }]);
  } else if (status === 429 || body.error === "server_error" || body.error === "overloaded") {
    showFailure(answer);
  } else {
    // The account may exist: the text says to look for the message first.
    showUnreachable();
  }
}

function start() {
  attach();
  attachMeter(personal);
  attachNote();
  byId("another").hidden = false;
  byId("another").addEventListener("click", async () => {
    if (await newQuestion()) announce(say("question_new", { question: byId("question").textContent }));
    else announce(say("captcha_lost"));
    byId("captcha_answer").focus();
  });
  keepTyped("user", "name", "email");
  onSubmit(form, submit);
  newQuestion();
}

if (!sound) {
  refuse();
} else if (location.hash === "#sent" && history.state?.email) {
  showSent(history.state);
} else {
  if (location.hash === "#sent") history.replaceState(null, "", location.pathname + location.search);
  start();
}
