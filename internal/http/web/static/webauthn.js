// Passkeys (WebAuthn). The server sends options and takes responses as JSON with base64url.

import { send } from "./http.js";

/** Whether this browser has passkeys. It has them only on pages with https, or of this machine. */
export const supported = typeof PublicKeyCredential === "function" && Boolean(navigator.credentials);

function decode(text) {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function encode(buffer) {
  const binary = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** Returns a credential as the server reads it, with these parts of its response. */
function pack({ id, rawId, type, response }, parts, more = {}) {
  const packed = { clientDataJSON: encode(response.clientDataJSON), ...more };
  for (const part of parts) packed[part] = encode(response[part]);
  return JSON.stringify({ id, rawId: encode(rawId), type, response: packed });
}

/** Makes a passkey and returns the response for the server. It throws if the person cancels. */
export async function createPasskey({ challenge, user, excludeCredentials = [], ...rest }) {
  const credential = await navigator.credentials.create({
    publicKey: {
      ...rest,
      challenge: decode(challenge),
      user: { ...user, id: decode(user.id) },
      excludeCredentials: excludeCredentials.map((known) => ({ ...known, id: decode(known.id) })),
    },
  });
  const transports = credential.response.getTransports?.() ?? [];
  return pack(credential, ["attestationObject"], { transports });
}

/**
 * Has the person choose a passkey and returns the response for the server. It throws if the person
 * cancels. more has further members of the request, such as a signal.
 */
export async function usePasskey({ challenge, ...rest }, more = {}) {
  const credential = await navigator.credentials.get({ ...more, publicKey: { ...rest, challenge: decode(challenge) } });
  return pack(credential, ["authenticatorData", "signature", "userHandle"]);
}

/** Returns the answer with the options for using a passkey. */
export const passkeyOptions = () => send("/passkey-options.ashx");

/** The key of the text about an error that a browser throws. */
export function browserProblem(error) {
  if (error?.name === "NotAllowedError" || error?.name === "AbortError") return "passkey_cancelled";
  if (error?.name === "InvalidStateError") return "passkey_known";
  return "passkey_failed";
}
