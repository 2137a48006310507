// Who swipes and from where: an id that this browser keeps, and the scene that it can tell.

import { randomId } from "./hash.js";

const KEY = "nextswipe.user";
const MAX_ID = 128;

/** Return the person's id: `?user=` if given, else the one kept here, else a new one; keep it. */
export function identify(location, storage) {
  const asked = new URLSearchParams(location.search).get("user")?.trim().slice(0, MAX_ID);
  const userId = asked || storage.getItem(KEY) || newUserId();
  storage.setItem(KEY, userId);
  return userId;
}

/** Return an id that nobody has. */
export function newUserId() {
  return `web-${randomId().slice(0, 10)}`;
}

/** Return the scene of a feed request; what the browser does not tell is left out. */
export function observeScene() {
  const locale = new Intl.Locale(navigator.language || "en");
  const country = /^[A-Z]{2}$/.test(locale.region ?? "") ? locale.region : undefined;
  return {
    country,
    language: locale.language,
    device: observeDevice(),
    network: navigator.connection?.effectiveType,
  };
}

function observeDevice() {
  if (!matchMedia("(pointer: coarse)").matches) return "desktop";
  return Math.min(screen.width, screen.height) < 600 ? "phone" : "tablet";
}
