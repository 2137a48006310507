// Keys, wheel and touch, turned into what they mean; knows no card and no server.

const SWIPE_PX = 56;
const FLICK_PX_PER_MS = 0.45;
const TAP_PX = 8;
const DOUBLE_TAP_MS = 320;
const WHEEL_PX = 24;
const WHEEL_QUIET_MS = 160;

const KEYS = {
  ArrowDown: "next",
  ArrowUp: "previous",
  PageDown: "next",
  PageUp: "previous",
  j: "next",
  k: "previous",
  l: "like",
  b: "save",
  s: "share",
  f: "follow",
  x: "not_interested",
  w: "why",
  m: "sound",
  Escape: "close",
};

/** Call `on(action)` for each key that means one. */
export function listenToKeys(target, on) {
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const action = readKey(event);
    if (!action) return;
    event.preventDefault();
    if (!event.repeat) on(action);
  });
}

function readKey(event) {
  if (event.key !== " ") return KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (event.target.closest("button, a")) return undefined; // there it presses what has the focus
  return event.shiftKey ? "previous" : "next";
}

function isTyping(element) {
  return Boolean(element.closest("input, textarea, select, [contenteditable]"));
}

/** Call `on(action)` once for each turn of the wheel; the rest of a trackpad's glide is ignored. */
export function listenToWheel(target, on) {
  let lastMs = -Infinity;
  let sum = 0;
  let isArmed = true;
  const turn = (event) => {
    if (event.ctrlKey) return;
    event.preventDefault();
    const turnsBack = Math.sign(event.deltaY) === -Math.sign(sum);
    if (turnsBack || event.timeStamp - lastMs > WHEEL_QUIET_MS) [sum, isArmed] = [0, true];
    lastMs = event.timeStamp;
    sum += event.deltaY * (event.deltaMode === 0 ? 1 : WHEEL_PX);
    if (!isArmed || Math.abs(sum) < WHEEL_PX) return;
    isArmed = false;
    on(sum > 0 ? "next" : "previous");
  };
  target.addEventListener("wheel", turn, { passive: false });
}

/**
 * Follow one finger (or the mouse): `drag(px)` while it moves, then `drag(0)` and `on(action)` for
 * a swipe, or `on("like", point)` for a double tap.
 */
export function listenToTouch(target, on, drag) {
  let start = null;
  let lastTapMs = -Infinity;

  target.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0 || event.target.closest("button, a")) return;
    start = { y: event.clientY, ms: event.timeStamp };
    target.setPointerCapture(event.pointerId);
  });
  target.addEventListener("pointermove", (event) => {
    if (start) drag(event.clientY - start.y);
  });
  target.addEventListener("pointercancel", () => {
    start = null;
    drag(0);
  });
  target.addEventListener("pointerup", (event) => {
    if (!start) return;
    const moved = event.clientY - start.y;
    const speed = Math.abs(moved) / Math.max(1, event.timeStamp - start.ms);
    start = null;
    drag(0);
    if (Math.abs(moved) <= TAP_PX) tap(event);
    else if (Math.abs(moved) > SWIPE_PX || speed > FLICK_PX_PER_MS) {
      on(moved < 0 ? "next" : "previous");
    }
  });

  function tap(event) {
    const isSecond = event.timeStamp - lastTapMs < DOUBLE_TAP_MS;
    lastTapMs = isSecond ? -Infinity : event.timeStamp;
    if (isSecond) on("like", { x: event.clientX, y: event.clientY });
  }
}
