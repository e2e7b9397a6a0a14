// The page's texts for its scripts, in the page's language. The page has them in a block of JSON,
// and they are shown as text, never as markup.

const texts = JSON.parse(document.getElementById("texts").textContent);

/** The page's language, for dates and durations, with the digits that its texts and fields use. */
export const locale = `${document.documentElement.lang}-u-nu-latn`;

/** Whether there is a text with this key. */
export const has = (key) => Object.hasOwn(texts, key);

/** Returns the text with this key and its {slots} filled in. */
export function say(key, slots = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (whole, slot) => slots[slot] ?? whole);
}

/**
 * Makes text the content of an element. Its lines may break after @ and dots, as in an e-mail address,
 * before they break within a word.
 */
export function writeBreakable(element, text) {
  const parts = text.replace(/[@.](?=[\p{L}\p{N}])/gu, "$&\n").split("\n");
  element.replaceChildren(...parts.flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part])));
}

/**
 * Makes the text with this key the content of an element. The values in its slots keep their own
 * direction.
 */
export function write(element, key, slots = {}) {
  element.replaceChildren(...texts[key].split(/(\{\w+\})/).map((part) => {
    const slot = part.slice(1, -1);
    if (!part.startsWith("{") || !(slot in slots)) return part;
    const isolated = document.createElement("bdi");
    writeBreakable(isolated, String(slots[slot]));
    return isolated;
  }));
}
