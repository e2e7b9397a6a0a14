// What both forms do: say what is wrong, show that they are busy, and send with a limit of time. Every word that is shown
// comes from the page's block of texts; nothing is put into the page as markup.

const byId = (id) => document.getElementById(id);

const texts = JSON.parse(byId("texts").textContent);

/** The text with this key, its {slots} filled in. */
export function say(key, slots = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (whole, slot) => slots[slot] ?? whole);
}

/** Whether there is a text with this key. */
export const has = (key) => Object.hasOwn(texts, key);

/** Makes the text with this key the content of an element. What fills its slots keeps its own direction. */
export function write(element, key, slots = {}) {
  element.replaceChildren(...texts[key].split(/(\{\w+\})/).map((part) => {
    const slot = part.slice(1, -1);
    if (!part.startsWith("{") || !(slot in slots)) return part;
    const own = document.createElement("bdi");
    own.textContent = slots[slot];
    return own;
  }));
}

// The page's language, for dates and spans of time, with the digits that its texts and fields have.
export const locale = `${document.documentElement.lang}-u-nu-latn`;

/** Tells people who listen to the page instead of looking at it. */
export function announce(text) {
  byId("status").textContent = text;
}

/** The user name without the space that phone keyboards like to add. Letters are never changed. */
export function userName() {
  const input = byId("user");
  input.value = input.value.trim();
  return input.value;
}

/** The key of what is wrong with a user name, or undefined. */
export function userProblem(user) {
  if (!user) return "user_empty";
  if (/^[A-Za-z0-9_.-]+$/.test(user) && /[A-Z]/.test(user)) return "user_upper";
  return /^[a-z0-9_.-]+$/.test(user) ? undefined : "user_shape";
}

/** A point in time in words: the time of day, and the date if it is another day. */
export function clock(date) {
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString(locale, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

/** The text of a 429: how long, and until when, as the Retry-After field says in seconds. */
export function limited(headers, key = "rate_limited") {
  const seconds = Number(headers.get("Retry-After"));
  if (!(seconds > 0)) return say(`${key}_open`);
  const minutes = Math.ceil(seconds / 60);
  const format = new Intl.RelativeTimeFormat(locale);
  const wait = minutes < 120 ? format.format(minutes, "minute") : format.format(Math.ceil(minutes / 60), "hour");
  return say(key, { wait, time: clock(new Date(Date.now() + seconds * 1000)) });
}

/** A request with a limit of 15 seconds for the whole answer. It throws if there is none; body is {} if it is no JSON. */
export async function send(url, options = {}) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), 15_000);
  try {
    const answer = await fetch(url, { cache: "no-store", credentials: "same-origin", ...options, signal: control.signal });
    const text = await answer.text();
    let body = {};
    try {
      body = JSON.parse(text) ?? {};
    } catch {
      // An answer of something between here and the server. Its status still counts.
    }
    return { status: answer.status, headers: answer.headers, body };
  } finally {
    clearTimeout(timer);
  }
}

const title = document.title;
const described = new Map();

function mark(id, text) {
  const input = byId(id);
  const error = byId(`${id}-error`);
  if (!described.has(id)) described.set(id, input.getAttribute("aria-describedby"));
  const hint = described.get(id);
  const word = document.createElement("span");
  word.className = "unseen";
  word.textContent = `${say("error")} `;
  error.replaceChildren(word, text);
  error.hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", hint ? `${error.id} ${hint}` : error.id);
}

/** Takes back what showProblems showed. */
export function clearProblems() {
  document.title = title;
  byId("summary").hidden = true;
  byId("summary-retry").hidden = true;
  for (const [id, hint] of described) {
    const input = byId(id);
    byId(`${id}-error`).hidden = true;
    input.removeAttribute("aria-invalid");
    if (hint) input.setAttribute("aria-describedby", hint);
    else input.removeAttribute("aria-describedby");
  }
}

/**
 * Shows problems: [{text, field}], where field is the id of an input, or absent for what concerns the whole form. The
 * summary takes the focus, unless focus names an input that should have it.
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

/**
 * Runs submit when the form is sent, once at a time, and shows that it runs. The button keeps the focus: a disabled one
 * would lose it.
 */
export function onSubmit(form, submit) {
  const button = byId("submit");
  const idle = button.textContent;
  let busy = false;
  const rest = () => {
    busy = false;
    form.removeAttribute("aria-busy");
    button.removeAttribute("aria-disabled");
    button.textContent = idle;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    try {
      await submit(() => {
        form.setAttribute("aria-busy", "true");
        button.setAttribute("aria-disabled", "true");
        button.textContent = say("busy");
        announce(say("busy"));
      });
    } finally {
      rest();
    }
  });
  byId("retry").addEventListener("click", () => {
    button.focus();
    form.requestSubmit();
  });
  byId("stalled").remove();
  button.disabled = false;
}

/**
 * Another language is another page. What was typed into these fields goes there along, by way of this tab's storage, which
 * gives it out once.
 */
export function keepTyped(...ids) {
  const key = `typed ${location.pathname}`;
  try {
    const typed = JSON.parse(sessionStorage.getItem(key) ?? "{}");
    sessionStorage.removeItem(key);
    for (const id of ids) byId(id).value ||= typed[id] ?? "";
  } catch {
    // Without storage the person types it again.
  }
  byId("languages")?.addEventListener("click", (event) => {
    if (!event.target.closest("a")) return;
    try {
      sessionStorage.setItem(key, JSON.stringify(Object.fromEntries(ids.map((id) => [id, byId(id).value]))));
    } catch {
      // As above.
    }
  });
}

/** Says that this browser cannot make the keys. The button stays disabled. */
export function refuse() {
  byId("stalled").remove();
  showProblems([{ text: say("broken") }]);
}
