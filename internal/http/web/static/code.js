// The field for the second step of a proof, where an account has an authenticator app: the code of the app, or
// a recovery code. It is hidden until the server asks for it.

import { byId } from "./page.js";
import { say } from "./texts.js";
import { showProblems, clearProblems } from "./problems.js";

/** Returns a code in ASCII, without spaces and hyphens. Keyboards may have other digits. */
export function plainCode(text) {
  return text.normalize("NFKC")
    .replace(/[\u0660-\u0669\u06f0-\u06f9]/g, (digit) => digit.charCodeAt(0) & 15)
    .replace(/[^0-9A-Za-z]/g, "");
}

const typed = () => plainCode(byId("code")?.value ?? "");

/** Returns the header with what is in the field, or nothing. */
export const codeHeader = () => (typed() ? { "Dialtone-Code": typed() } : {});

/** Reports whether a recovery code is in the field, which is longer than a code of an app. */
export const isRecoveryCode = () => typed().length > 6;

/** Returns the problem of what is in the field of a form that cannot be a code. */
export function codeProblem(form) {
  const field = byId("code");
  if (!field || !form.contains(field) || !field.checkVisibility()) return undefined;
  return /^(\d{6}|[0-9a-tv-z]{10})?$/i.test(typed()) ? undefined : { field: "code", text: say("code_shape") };
}

/** Empties the field. A code works once. */
export function forgetCode() {
  if (byId("code")) byId("code").value = "";
}

/** Shows the field if an answer asks for a code, and reports whether it did. */
export function askCode({ status, headers }) {
  const rule = headers.get("Dialtone-Rule");
  const box = byId("code-field");
  if (status !== 403 || !box || !["code", "code.wrong"].includes(rule)) return false;
  const first = box.hidden && rule === "code";
  box.hidden = false;
  forgetCode();
  if (first) {
    clearProblems();
    byId("code").focus();
  } else {
    showProblems([{ field: "code", text: say(rule === "code" ? "code_empty" : "code_wrong") }]);
  }
  return true;
}
