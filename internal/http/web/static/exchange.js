// A request that proves the password by the exchange of digest.js: the second one has the answer to the first one's challenge.

import { send } from "./form.js";
import { digestChallenge, authorization } from "./digest.js";

const asScript = { "X-Requested-With": "fetch" };

/**
 * The server's last word; proven says that it has seen a proof. A nonce that had grown old is replaced once, without a word. who is
 * { user, password }, or { user, held } with the keys by algorithm.
 */
export async function exchange(uri, who, { method = "GET", body } = {}) {
  let answer = await send(uri, { method, headers: asScript });
  for (let turn = 0; turn < 2 && answer.status === 401; turn++) {
    const params = digestChallenge(answer.headers.get("WWW-Authenticate") ?? "");
    if (!params || (turn > 0 && params.get("stale")?.toLowerCase() !== "true")) break;
    const proof = authorization(params, { ...who, method, uri });
    answer = await send(uri, { method, body, headers: { ...asScript, Authorization: proof } });
    answer.proven = true;
  }
  return answer;
}
