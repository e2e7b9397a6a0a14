// The page that turns the second step of signing in on and off. Each change needs the password, and the code
// too if the second step is on.

import { byId, showPanel } from "./page.js";
import "./notice.js";
import "./copy.js";
import { say } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { exchangeTyped } from "./exchange.js";
import { plainCode } from "./code.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";

const form = byId("two-step");
const { host } = form.dataset;
const user = byId("user").value;
const on = form.dataset.state === "on";

/** What the form does when it is sent: finish, when the app has been shown. */
function chosen() {
  if (on) return form.querySelector("[name=do]:checked")?.value;
  return byId("app").hidden ? "begin" : "finish";
}

/** Returns the problems that the page can find without the server. */
function check(action, current) {
  const problems = [];
  if (!action) problems.push({ field: "do", text: say("do_empty") });
  if (!current) problems.push({ field: "current", text: say("current_empty") });
  if (action === "finish" && !plainCode(byId("first").value)) {
    problems.push({ field: "first", text: say("first_empty") });
  } else if (action === "finish" && !/^\d{6}$/.test(plainCode(byId("first").value))) {
    problems.push({ field: "first", text: say("first_shape") });
  }
  return problems;
}

/** Shows what the app needs, and the field for its first code. */
function showApp({ secret, uri, qr }) {
  byId("qr").setAttribute("viewBox", `0 0 ${qr.size} ${qr.size}`);
  byId("qr-path").setAttribute("d", qr.path);
  byId("v-secret").textContent = secret.replace(/(.{4})(?=.)/g, "$1 ");
  byId("open-app").href = uri;
  byId("proof").hidden = true;
  byId("app").hidden = false;
  byId("submit").textContent = say("finish");
  byId("first").focus();
}

/** Shows recovery codes, which the server does not have any more. */
function showCodes(codes) {
  const text = codes.join("\n");
  byId("v-codes").textContent = text;
  byId("print").addEventListener("click", () => print());
  const link = byId("download");
  link.href = URL.createObjectURL(new Blob([`${user}@${host}\n\n${text}\n`], { type: "text/plain" }));
  link.download = `${host}-codes.txt`;
  history.replaceState(null, "", location.pathname + location.search);
  showPanel("codes");
}

function showRefusal(answer, action) {
  const { status, headers, proven } = answer;
  if (status === 401 && proven) {
    byId("proof").hidden = false;
    showProblems([{ field: "current", text: say("current_wrong") }]);
  } else if (action === "finish" && headers.get("Dialtone-Rule") === "code.other") {
    byId("first").value = "";
    showProblems([{ field: "first", text: say("first_wrong") }]);
  } else if (status === 409 || (action === "finish" && status === 403)) {
    // An account that asks for a code has got an app elsewhere since this page was loaded.
    showProblems([{ text: say("conflict") }]);
  } else if (status === 400) {
    showProblems([{ text: say("invalid_request") }]);
  } else {
    showFailure(answer);
  }
}

async function submit(showBusy) {
  conceal();
  clearProblems();
  const action = chosen();
  const password = byId("current").value;
  const problems = check(action, password);
  if (problems.length) {
    showProblems(problems);
    return;
  }
  showBusy();
  const body = new URLSearchParams({ do: action });
  if (action === "finish") body.set("code", plainCode(byId("first").value));
  const answer = await answerTo(exchangeTyped("/two-step.ashx", { user, password }, { method: "POST", body }));
  if (!answer) return;
  if (answer.status !== 200 || answer.body.ok !== true || !answer.proven) {
    showRefusal(answer, action);
  } else if (action === "begin") {
    showApp(answer.body);
  } else if (action === "off") {
    location.hash = "off";
    location.reload();
  } else {
    byId("now-on").hidden = action !== "finish";
    showCodes(answer.body.codes);
  }
}

if (!sound) {
  refuse();
} else {
  attach();
  onSubmit(form, submit);
  if (!location.hash && !on) byId("current").focus({ preventScroll: true });
}
