// The form behind an activation link that needs the password too. The token stays in the address
// until the account is active: a page that is loaded again still needs it.

import { byId, showPanel } from "./page.js";
import { say } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit, refuse } from "./form.js";
import { exchangeTyped } from "./exchange.js";
import { remember } from "./storage.js";
import { sound } from "./keys.js";
import { attach, conceal } from "./password.js";

async function submit(showBusy) {
  conceal();
  clearProblems();
  const user = byId("user").value;
  const password = byId("password").value;
  if (!password) {
    showProblems([{ field: "password", text: say("password_empty") }]);
    return;
  }
  showBusy();
  const body = new URLSearchParams({ token: new URLSearchParams(location.search).get("token") ?? "" });
  const answer = await answerTo(exchangeTyped("/activate.ashx", { user, password }, { method: "POST", body }));
  if (!answer) return;
  const { status, proven } = answer;
  if (status === 200 && answer.body.ok === true && proven) {
    history.replaceState(null, "", byId("done").dataset.after);
    remember(user);
    showPanel("done");
  } else if (status === 401 && proven) {
    showProblems([{ field: "password", text: say("password_wrong") }]);
  } else if (status === 400) {
    showProblems([{ text: say("link_lost") }]);
  } else {
    showFailure(answer);
  }
}

if (sound) {
  attach();
  onSubmit(byId("confirm"), submit);
  byId("password").focus({ preventScroll: true });
} else {
  refuse();
}
