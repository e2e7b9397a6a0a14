// The rules of the fields that several forms have.

import { byId } from "./page.js";

/**
 * Returns the user name, and removes the space that phone keyboards add to it. Letters are never
 * changed.
 */
export function userName() {
  const input = byId("user");
  input.value = input.value.trim();
  return input.value;
}

/** The key of the text that says what is wrong with a user name, or undefined. */
export function userProblem(user) {
  if (!user) return "user_empty";
  if (/^[A-Za-z0-9_.-]+$/.test(user) && /[A-Z]/.test(user)) return "user_upper";
  return /^[a-z0-9_.-]+$/.test(user) ? undefined : "user_shape";
}

/** Whether this has the shape of an e-mail address. The server checks the rest. */
export const isEmail = (text) => /^[^\s@]+@[^\s@.]+(\.[^\s@.]+)*$/.test(text);
