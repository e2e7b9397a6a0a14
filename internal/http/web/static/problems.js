// The problem summary above a form, and the same texts beside its fields.

import { byId } from "./page.js";
import { say } from "./texts.js";

const title = document.title;
const hints = new Map(); // by input id: its aria-describedby without a problem

function mark(id, text) {
  const input = byId(id);
  const error = byId(`${id}-error`);
  if (!hints.has(id)) hints.set(id, input.getAttribute("aria-describedby"));
  const hint = hints.get(id);
  const prefix = document.createElement("span");
  prefix.className = "unseen";
  prefix.textContent = `${say("error")} `;
  error.replaceChildren(prefix, text);
  error.hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", hint ? `${error.id} ${hint}` : error.id);
}

/** Removes what showProblems added. */
export function clearProblems() {
  document.title = title;
  byId("summary").hidden = true;
  byId("summary-retry").hidden = true;
  for (const [id, hint] of hints) {
    const input = byId(id);
    byId(`${id}-error`).hidden = true;
    input.removeAttribute("aria-invalid");
    if (hint) input.setAttribute("aria-describedby", hint);
    else input.removeAttribute("aria-describedby");
  }
}

/**
 * Shows problems: [{ text, field }], where field is the id of an input, or absent for a problem of
 * the whole form. The summary takes the focus, or the input that focus names. With retry it has a
 * button that sends the form again.
 */
export function showProblems(problems, { retry = false, focus } = {}) {
  clearProblems();
  byId("summary-list").replaceChildren(...problems.map(({ text, field }) => {
    const item = document.createElement("li");
    if (!field) {
      item.textContent = text;
      return item;
    }
    mark(field, text);
    const link = document.createElement("a");
    link.href = `#${field}`;
    link.textContent = text;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      byId(field).focus();
    });
    item.append(link);
    return item;
  }));
  byId("summary-retry").hidden = !retry;
  byId("summary").hidden = false;
  document.title = `${say("error")} ${title}`;
  byId(focus ?? "summary").focus();
}
