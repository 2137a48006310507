// Speaks the HTTP API, version 1: asks for pages and posts events. Knows no page and no person.

const ROOT = new URL("..", import.meta.url);
const JSON_HEADERS = { "Content-Type": "application/json", Accept: "application/json" };
const TIMEOUT_MS = 15000;
const TOKEN = readToken();
if (TOKEN) JSON_HEADERS.Authorization = `Bearer ${TOKEN}`;

/** A request that the server will not take; sending the same one again does not help. */
export class RefusedError extends Error {}

/** Return a page: `{page_id, items, degraded?}`. The same `request_id` gives the same page. */
export function fetchPage(request) {
  return post("v1/feed", request);
}

/** Return an item, or null if there is none of that id. */
export async function fetchItem(itemId) {
  const address = new URL(`v1/items/${encodeURIComponent(itemId)}`, ROOT);
  const options = { headers: JSON_HEADERS, signal: AbortSignal.timeout(TIMEOUT_MS) };
  const response = await fetch(address, options);
  return response.ok ? response.json() : null;
}

/** Post events and return `{accepted, duplicates, refused}`, after they are on disk. */
export function postEvents(events) {
  return post("v1/feedback", { events }, { keepalive: true });
}

/** Hand events to the browser, which sends them after the page is gone; return whether it will. */
export function beaconEvents(events) {
  if (TOKEN) {
    // A beacon carries no header. A request that outlives the page does, but nobody hears whether it
    // arrives: the caller keeps the events, and the same ids count once.
    postEvents(events).catch(() => {});
    return false;
  }
  const body = new Blob([JSON.stringify({ events })], { type: "application/json" });
  return navigator.sendBeacon(new URL("v1/feedback", ROOT), body);
}

/** Return the token that the page was opened with (`#token=...`); it stays out of the address. */
function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("nextswipe.token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("nextswipe.token");
}

async function post(path, body, options = {}) {
  const response = await fetch(new URL(path, ROOT), {
    method: "POST",
    headers: JSON_HEADERS,
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...options,
  });
  if (response.ok) return response.json();
  const message = `${path}: ${response.status} ${await readProblem(response)}`;
  const isOurFault = response.status >= 400 && response.status < 500;
  // A token that has ended may be renewed by opening the page with another one.
  const mayPass = [401, 408, 429].includes(response.status);
  throw isOurFault && !mayPass ? new RefusedError(message) : new Error(message);
}

async function readProblem(response) {
  const text = await response.text();
  try {
    const problem = JSON.parse(text);
    return [problem.detail || problem.title, problem.field && `(${problem.field})`]
      .filter(Boolean)
      .join(" ");
  } catch {
    return response.statusText;
  }
}
