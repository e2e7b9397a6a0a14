// The problems of a form: a text beside each field, and a summary above the form where there are
// several, or where one is of the form as a whole.

import { byId } from "./page.js";
import { say } from "./texts.js";

const title = document.title;
const hints = new Map(); // by the id of a marked field: its aria-describedby without a problem

/** Focuses an input, or the first one of a group. */
function focusField(id) {
  const field = byId(id);
  (field.querySelector("input") ?? field).focus();
}

function mark(id, text) {
  const input = byId(id);
  const error = byId(`${id}-error`);
  hints.set(id, input.getAttribute("aria-describedby"));
  const prefix = document.createElement("span");
  prefix.className = "unseen";
  prefix.textContent = `${say("error")} `;
  error.replaceChildren(prefix, text);
  error.hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", [error.id, hints.get(id)].filter(Boolean).join(" "));
}

function unmark(id) {
  const input = byId(id);
  const hint = hints.get(id);
  hints.delete(id);
  byId(`${id}-error`).hidden = true;
  input.removeAttribute("aria-invalid");
  if (hint) input.setAttribute("aria-describedby", hint);
  else input.removeAttribute("aria-describedby");
}

function hideSummary() {
  document.title = title;
  byId("summary").hidden = true;
  byId("summary-retry").hidden = true;
}

/** Removes what showProblems added, and what the page says of an earlier attempt. */
export function clearProblems() {
  for (const notice of document.querySelectorAll(".said, #saved")) notice.hidden = true;
  hideSummary();
  for (const id of [...hints.keys()]) unmark(id);
}

// A problem is gone from the page when its field changes.
document.addEventListener("input", ({ target }) => {
  const { id } = hints.has(target.id) ? target : target.closest("fieldset") ?? target;
  if (!hints.has(id)) return;
  unmark(id);
  byId("summary-list").querySelector(`[data-field="${id}"]`)?.remove();
  if (hints.size === 0) hideSummary();
});

/**
 * Shows problems: [{ text, field }], where field is the id of an input or a group, or absent for a problem of
 * the whole form. The field takes the focus if it has the only problem, and otherwise the summary.
 * With retry, the summary has a button that sends the form again.
 */
export function showProblems(problems, { retry = false } = {}) {
  clearProblems();
  byId("summary-list").replaceChildren(...problems.map(({ text, field }) => {
    const item = document.createElement("li");
    if (!field) {
      item.textContent = text;
      return item;
    }
    mark(field, text);
    item.dataset.field = field;
    const link = document.createElement("a");
    link.href = `#${field}`;
    link.textContent = text;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      focusField(field);
    });
    item.append(link);
    return item;
  }));
  document.title = `${say("error")} ${title}`;
  if (problems.length === 1 && problems[0].field) {
    focusField(problems[0].field);
    return;
  }
  byId("summary-retry").hidden = !retry;
  byId("summary").hidden = false;
  byId("summary").focus();
}
