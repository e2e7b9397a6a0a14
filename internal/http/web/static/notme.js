// The page for somebody who did not change the password. Only the button uses the link up.

import { byId, showPanel } from "./page.js";
import { clearProblems } from "./problems.js";
import { answerTo, showFailure } from "./failures.js";
import { onSubmit } from "./form.js";
import { send } from "./http.js";
import { token } from "./link.js";

async function submit(showBusy) {
  clearProblems();
  showBusy();
  const answer = await answerTo(send("/not-me.ashx", { method: "POST", body: new URLSearchParams({ token }) }));
  if (!answer) return;
  const { status, body } = answer;
  if (status === 200 && typeof body.reset === "string" && body.reset.startsWith("/reset.html?")) {
    location.replace(body.reset);
    await new Promise((left) => { addEventListener("pagehide", left, { once: true }); });
  } else if (status === 404 || status === 400) {
    showPanel("lost");
  } else {
    showFailure(answer);
  }
}

onSubmit(byId("not-me"), submit);
