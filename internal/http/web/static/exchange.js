// Requests that prove the password: the second round has the answer to the challenge of the first.

import { send } from "./http.js";
import { digestChallenge, authorization } from "./digest.js";
import { codeHeader, forgetCode } from "./code.js";

const asScript = { "X-Requested-With": "fetch" };

// The header of a request without a proof. A browser that has opened a link to
// http://name:password@host/ adds the proof of that name to every request that has no Authorization
// of its own (Fetch standard, HTTP-network-or-cache fetch). The person would then be refused, or
// signed in, as somebody else.
const noProof = { ...asScript, Authorization: "X-Digest" };

/**
 * Returns the last answer of the server. Its property proven is true if a proof was sent. A stale
 * nonce is replaced once. A code that is in the page's field for it is sent too. who is { user, password }, or { user, held } with the keys by algorithm.
 */
export async function exchange(uri, who, { method = "GET", body } = {}) {
  let answer = await send(uri, { method, headers: noProof });
  for (let round = 0; round < 2 && answer.status === 401; round++) {
    const params = digestChallenge(answer.headers.get("WWW-Authenticate") ?? "");
    if (!params || (round > 0 && params.get("stale")?.toLowerCase() !== "true")) break;
    const proof = authorization(params, { ...who, method, uri });
    answer = await send(uri, { method, body, headers: { ...asScript, ...codeHeader(), Authorization: proof } });
    answer.proven = true;
  }
  if (answer.proven && answer.status < 300) forgetCode();
  return answer;
}

/**
 * Returns the password in its other Unicode form, composed or decomposed, or undefined if it has
 * only one.
 */
export function otherForm(password) {
  const composed = password.normalize("NFC");
  const other = composed === password ? password.normalize("NFD") : composed;
  return other === password ? undefined : other;
}

/**
 * Is exchange for a typed password. Keyboards differ in the Unicode form of letters such as ö, so a
 * refused password is tried once more in its other form. The answer's property password is the one
 * that was sent last.
 */
export async function exchangeTyped(uri, { user, password }, options) {
  const answer = await exchange(uri, { user, password }, options);
  const other = otherForm(password);
  if (answer.status !== 401 || !answer.proven || other === undefined) return { ...answer, password };
  return { ...await exchange(uri, { user, password: other }, options), password: other };
}
