// Requests to this site.

/**
 * Sends a request and returns { status, headers, body }. It allows 15 seconds for the whole
 * response and throws if there is none. The body is {} unless it is a JSON object.
 */
export async function send(url, options = {}) {
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), 15_000);
  try {
    const response = await fetch(url, {
      cache: "no-store", credentials: "same-origin", ...options, signal: control.signal,
    });
    const text = await response.text();
    let body = {};
    try {
      body = JSON.parse(text) ?? {};
    } catch {
      // The response of a proxy. Its status still counts.
    }
    return { status: response.status, headers: response.headers, body };
  } finally {
    clearTimeout(timer);
  }
}
