// The parts that every page has.

export const byId = (id) => document.getElementById(id);

let old; // the timer that removes what was announced last

/** Tells people who use a screen reader. They do not find the text later, when it may no longer be true. */
export function announce(text) {
  clearTimeout(old);
  byId("status").textContent = text;
  if (text) old = setTimeout(() => announce(""), 10_000);
}

/**
 * Replaces the form by the panel with this id, as if it were a new page: its heading becomes the
 * title and takes the focus. The heading has the id of the panel and "-title".
 */
export function showPanel(id) {
  byId("start")?.remove();
  byId("languages")?.remove(); // its links lead back to an empty form
  byId(id).hidden = false;
  const title = byId(`${id}-title`);
  document.title = document.title.replace(/^[^–]*/, `${title.textContent} `);
  scrollTo(0, 0);
  title.focus();
}
