// A request that proves the password: its second round has the answer to the challenge of the
// first.

import { send } from "./http.js";
import { digestChallenge, authorization } from "./digest.js";

const asScript = { "X-Requested-With": "fetch" };

/**
 * Returns the last answer of the server. Its property proven is true if a proof was sent. A stale
 * nonce is replaced once. who is { user, password }, or { user, held } with the keys by algorithm.
 */
export async function exchange(uri, who, { method = "GET", body } = {}) {
  let answer = await send(uri, { method, headers: asScript });
  for (let round = 0; round < 2 && answer.status === 401; round++) {
    const params = digestChallenge(answer.headers.get("WWW-Authenticate") ?? "");
    if (!params || (round > 0 && params.get("stale")?.toLowerCase() !== "true")) break;
    const proof = authorization(params, { ...who, method, uri });
    answer = await send(uri, { method, body, headers: { ...asScript, Authorization: proof } });
    answer.proven = true;
  }
  return answer;
}
