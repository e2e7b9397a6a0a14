// The page for somebody who did not make a change. Only the button uses the link up.

import { byId, showPanel } from "./page.js";
import { writeBreakable } from "./texts.js";
import { clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit } from "./form.js";
import { send } from "./http.js";
import { rememberChosen, rememberLostCodes, wasChosen } from "./storage.js";
import { token, outcome, finish } from "./link.js";

const form = byId("not-me"); // there is none if the link does not work

const leads = (path) => typeof path === "string" && path.startsWith("/reset.html?");

/** Says what was done, and leads to another password. */
function showDone({ user, did, email, reset }) {
  writeBreakable(byId("done").querySelector("bdi.host"), user);
  writeBreakable(byId("done").querySelector("bdi.address"), email);
  for (const item of document.querySelectorAll("#done [data-did]")) item.hidden = !did.includes(item.dataset.did);
  // The language of this page is that of the message, or the one that the person chose. The next page keeps it.
  if (leads(reset)) byId("choose").href = `${reset}&lang=${document.documentElement.lang}`;
  showChosen(user);
  showPanel("done");
}

/** Says that a new password was chosen already, to somebody who comes back to the page. */
function showChosen(user) {
  const chosen = wasChosen(user);
  byId("chosen").hidden = !chosen;
  for (const item of document.querySelectorAll("#done .next")) item.hidden = chosen;
}

async function submit(showBusy) {
  clearProblems();
  showBusy();
  const answer = await answerTo(send("/not-me.ashx", { method: "POST", body: new URLSearchParams({ token }) }));
  if (!answer) return;
  const { status, body } = answer;
  if (status === 200 && leads(body.reset)) {
    const did = [...document.querySelectorAll("#start [data-did]")].map((item) => item.dataset.did);
    const result = { ...form.dataset, did, reset: body.reset };
    rememberChosen(""); // for this link, there is no new password yet
    if (did.includes("codes")) rememberLostCodes(result.user);
    finish(result);
    showDone(result);
  } else if (status === 404 || status === 400) {
    showPanel("lost");
  } else {
    showFailure(answer);
  }
}

if (outcome) showDone(outcome);
else if (form) onSubmit(form, submit);

// The browser may show the page as it was left.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted && history.state?.outcome) showChosen(history.state.outcome.user);
});
