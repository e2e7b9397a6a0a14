// The sign-up form. It checks what it can, makes the keys from the fields as they are at that moment, and sends the keys.

import {
  say, has, write, locale, announce, send, userName, userProblem, limited, showProblems, clearProblems, onSubmit, keepTyped, refuse,
} from "./form.js";
import { keys, sound } from "./keys.js";
import { attach, attachMeter, conceal, count, minimum } from "./password.js";
import { offerResend } from "./resend.js";

const byId = (id) => document.getElementById(id);
const form = byId("signup");
const value = (id) => byId(id).value;

// A token is good for 15 minutes; the sum is changed before that, so that nobody answers one that has died.
const captchaLife = 13 * 60 * 1000;
let token = "";
let captchaTimer;
let captchaTurn = 0;

/** Fetches a new sum, and reports whether one came. Of several calls the last one counts. */
async function ask() {
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
  const here = typeof sum === "string" && typeof fresh === "string";
  write(byId("question"), here ? "question" : "question_lost", { sum });
  token = here ? fresh : "";
  if (here) captchaTimer = setTimeout(renew, captchaLife);
  return here;
}

/** Changes an old sum. An answer that was typed to it goes too, so that is said; otherwise nobody need notice. */
async function renew() {
  const answered = value("captcha_answer") !== "";
  if (await ask() && answered) announce(say("captcha_old"));
}

function offers(user, name) {
  const box = byId("user-offers");
  const plain = (text) => text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9 ]/g, "");
  const [first = "", ...rest] = plain(name).split(" ").filter(Boolean);
  const last = rest.at(-1) ?? "";
  const digits = () => String(10 + Math.floor(Math.random() * 90));
  const stem = user.slice(0, 60);
  const ideas = [last && `${first}.${last}`, last && `${first[0]}.${last}`, stem + digits(), `${stem}.${digits()}`, `${stem}-${digits()}`];
  const fit = ideas.filter((idea) => idea && idea !== user && idea.length <= 64 && !userProblem(idea));
  box.replaceChildren(...[...new Set(fit)].slice(0, 3).map(offer));
  box.hidden = false;
}

function offer(user) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  const words = document.createElement("span");
  write(words, "use", { user });
  button.append(words);
  button.addEventListener("click", () => {
    byId("user").value = user;
    byId("user-offers").hidden = true;
    byId("user").focus();
  });
  return button;
}

/** The problems that the page can see for itself. */
function check() {
  const problems = [];
  const add = (field, key, slots) => problems.push({ field, text: say(key, slots) });
  const user = userName();
  const wrong = userProblem(user) ?? (user.length > 64 ? "user_long" : undefined);
  if (wrong) add("user", wrong);
  if (wrong === "user_upper" && user.length <= 64) {
    byId("user-offers").replaceChildren(offer(user.toLowerCase()));
    byId("user-offers").hidden = false;
  }
  const name = value("name").trim();
  if (!name) add("name", "name_empty");
  else if (count(name.normalize("NFC")) > 120) add("name", "name_long");
  const email = value("email").trim();
  if (!email) add("email", "email_empty");
  else if (!/^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/.test(email)) add("email", "email_shape");
  const password = value("password");
  if (!password) add("password", "password_empty");
  else if (count(password) < minimum) add("password", "password_short", { count: count(password) });
  else if (user.length > 2 && password.toLowerCase().includes(user.toLowerCase())) add("password", "password_user");
  if (!/^\s*\d+\s*$/.test(value("captcha_answer"))) add("captcha_answer", token ? "captcha_empty" : "captcha_lost");
  return problems;
}

// Which field of the page a field of the contract is.
const inputs = { user: "user", name: "name", email: "email", ha1: "password", captcha_answer: "captcha_answer" };

/** Where a refusal of the server belongs, in this page's words: it names the field and the rule, if it concerns one. */
function refusal(headers) {
  const [field, rule] = (headers.get("Dialtone-Rule") ?? "").split(".");
  if (!Object.hasOwn(inputs, field)) return { text: say("invalid_request") };
  const key = `${inputs[field]}_${rule}`;
  return { field: inputs[field], text: say(has(key) ? key : "refused") };
}

function succeed(user, email, made) {
  const until = new Date(Date.now() + 7 * 24 * 60 * 60 * 1000);
  byId("sent-to").textContent = email;
  byId("sent-user").textContent = user;
  byId("sent-until").textContent = until.toLocaleString(locale, { dateStyle: "full", timeStyle: "short" });
  offerResend(user, made, { wait: true, sent: (address) => { byId("sent-to").textContent = address; } });
  clearTimeout(captchaTimer);
  captchaTurn++;
  try {
    sessionStorage.setItem("user", user);
  } catch {
    // Without storage the person types the name again.
  }
  byId("start").hidden = true;
  byId("sent").hidden = false;
  const title = byId("sent-title");
  document.title = document.title.replace(/^[^–]*/, `${title.textContent} `);
  // A new address and a form that is gone are the signs by which password managers know that this worked.
  history.pushState(null, "", "#sent");
  addEventListener("popstate", () => location.reload());
  byId("start").remove();
  byId("languages")?.remove(); // it would lead back to an empty form
  scrollTo(0, 0);
  title.focus();
}

async function submit(busy) {
  conceal();
  clearProblems();
  byId("user-offers").hidden = true;
  const problems = check();
  if (problems.length) {
    showProblems(problems);
    return;
  }
  busy();
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
  let answer;
  try {
    answer = await send("/signup.ashx", { method: "POST", body: fields });
  } catch {
    showProblems([{ text: say("unreachable") }], { retry: true });
    return;
  }
  const { status, headers, body } = answer;
  if (status === 200 && body.ok === true) {
    succeed(user, email, made);
  } else if (body.error === "captcha_failed") {
    await ask();
    showProblems([{ field: "captcha_answer", text: say("captcha_failed") }], { focus: "captcha_answer" });
  } else if (body.error === "conflict") {
    await ask();
    offers(user, name);
    showProblems([{ field: "user", text: say("conflict") }]);
  } else if (status === 429) {
    showProblems([{ text: limited(headers) }]);
  } else if (body.error === "invalid_request") {
    showProblems([refusal(headers)]);
  } else if (body.error === "server_error") {
    showProblems([{ text: say("server_error") }], { retry: true });
  } else if (status === 503 && body.error) {
    showProblems([{ text: say("overloaded") }], { retry: true });
  } else {
    showProblems([{ text: say("unreachable") }], { retry: true });
  }
}

if (sound) {
  if (location.hash === "#sent") history.replaceState(null, "", location.pathname + location.search);
  attach();
  attachMeter(() => [value("user"), ...value("name").split(/\s+/), ...value("email").split(/[@.]/), form.dataset.realm]);
  byId("another").hidden = false;
  byId("another").addEventListener("click", async () => {
    if (await ask()) announce(say("question_new", { question: byId("question").textContent }));
    else announce(say("captcha_lost"));
    byId("captcha_answer").focus();
  });
  keepTyped("user", "name", "email");
  onSubmit(form, submit);
  ask();
} else {
  refuse();
}
