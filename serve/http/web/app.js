// The page: puts deck, stage, watch and panel together, and says what each action does.

import { colour, hueOf } from "./art.js";
import { Deck } from "./deck.js";
import { listenToKeys, listenToTouch, listenToWheel } from "./gestures.js";
import { Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { identify, newUserId, observeScene } from "./person.js";
import { Stage } from "./stage.js";
import { Watch } from "./watch.js";
import { formatChance, initialsOf, titleOf } from "./words.js";

const TOAST_MS = 1800;
const TICK_MS = 500;
const PANEL_KEY = "nextswipe.why";

const find = (selector) => document.querySelector(selector);
const userId = identify(location, localStorage);
const followed = new Set();
let toastTimer = 0;

const outbox = new Outbox(localStorage, showOutbox);
const watch = new Watch(outbox);
const deck = new Deck(() => ({ user_id: userId, scene: observeScene() }), showFetched);
const stage = new Stage(find("#strip"), find("#card"), deck);
const panel = new Panel(find("#panel"), deck);

const ACTIONS = {
  next: () => swipe(1),
  previous: () => swipe(-1),
  like: (point) => like(point),
  share: () => share(),
  follow: () => follow(),
  not_interested: () => dismiss(),
  product: () => watch.tell("product_click"),
  sound: () => toggleSound(),
  why: () => togglePanel(),
  close: () => togglePanel(false),
};

start();

function start() {
  find("#user").textContent = userId;
  find("#stranger").href = `?user=${newUserId()}`;
  const isWide = matchMedia("(min-width: 960px) and (min-height: 520px)").matches;
  togglePanel((localStorage.getItem(PANEL_KEY) ?? String(isWide)) === "true");
  listenToKeys(document, act);
  listenToWheel(find("#stage"), act);
  listenToTouch(find("#stage"), act, (px) => stage.drag(px));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button) act(button.dataset.action);
  });
  document.addEventListener("visibilitychange", followVisibility);
  addEventListener("pageshow", followVisibility);
  addEventListener("pagehide", () => {
    watch.leave();
    outbox.handOver();
  });
  setInterval(showTold, TICK_MS);
  deck.fill();
}

function act(action, point) {
  if (deck.current || action === "why" || action === "close") ACTIONS[action](point);
}

// --- what the actions do ---

function swipe(step) {
  if (deck.move(step)) showCard();
  else stage.bump(step);
}

function like(point) {
  burst(point);
  if (watch.tell("like")) say("Liked");
  showActions();
}

function follow() {
  const { creator } = deck.current.item;
  if (!creator || followed.has(creator)) return;
  followed.add(creator);
  watch.tell("follow");
  say(`Following @${creator}`);
  showActions();
}

async function share() {
  watch.tell("share");
  showActions();
  const { media, item_id: itemId } = deck.current.item;
  const base = document.baseURI;
  const path = media && URL.canParse(media, base) ? media : `v1/items/${encodeURIComponent(itemId)}`;
  const link = new URL(path, base).href;
  try {
    await navigator.clipboard.writeText(link);
    say("Link copied");
  } catch {
    say("Shared"); // no clipboard without https or permission; the event counts all the same
  }
}

function dismiss() {
  watch.tell("not_interested");
  say("Noted: less of this");
  swipe(1);
}

function toggleSound() {
  if (!stage.current?.hasSound) return;
  find("#sound").setAttribute("aria-pressed", String(!stage.toggleSound()));
}

function togglePanel(isOpen = !panel.isOpen) {
  panel.toggle(isOpen);
  localStorage.setItem(PANEL_KEY, String(isOpen));
  document.body.classList.toggle("has-panel", isOpen);
  for (const button of document.querySelectorAll("[data-action=why]")) {
    button.setAttribute("aria-expanded", String(isOpen));
  }
  panel.show();
  showTold();
}

// --- what is shown ---

function showFetched() {
  if (deck.index < 0 && deck.cards.length) deck.move(1);
  if (deck.current) showCard();
  showStatus();
}

function showCard() {
  const card = deck.current;
  const isNew = stage.current?.card !== card || !stage.current.element.matches(".is-current");
  stage.show(isVisible());
  if (isNew) {
    watch.show(card);
    find("#now").textContent = `${titleOf(card.item)}${by(card.item)}`;
  }
  document.body.style.setProperty("--tint", colour(hueOf(card.item)));
  document.body.style.setProperty("--deep", colour(hueOf(card.item), 0.25, 0.09));
  find("#ranked").textContent = card.policy;
  find("#chance").textContent = formatChance(card.propensity);
  find("#sound").hidden = !stage.current.hasSound;
  showActions();
  showStatus();
  panel.show();
  showTold();
}

function showActions() {
  const { item, told } = deck.current;
  const isFollowed = followed.has(item.creator);
  press("like", told.has("like"));
  press("share", told.has("share"));
  press("not_interested", told.has("not_interested"));
  press("follow", isFollowed);
  find("#follow").hidden = !item.creator;
  find("#avatar").textContent = initialsOf(item.creator ?? "");
  const verb = isFollowed ? "Following" : "Follow";
  find("#follow").setAttribute("aria-label", `${verb} ${item.creator ?? ""}`);
  showTold();
}

function press(action, isPressed) {
  find(`#actions [data-action=${action}]`).setAttribute("aria-pressed", String(isPressed));
}

function showTold() {
  if (deck.current && panel.isOpen) panel.showTold(deck.current, watch.seconds(), outbox);
}

function showOutbox() {
  showStatus();
  showTold();
}

function showStatus() {
  const isWaiting = !deck.current || deck.problem;
  find("#loading").hidden = Boolean(deck.current);
  find("#status").hidden = !(isWaiting || outbox.isFailing);
  find("#status").textContent = describeStatus();
}

function describeStatus() {
  if (deck.problem) return `No new cards: ${deck.problem}. Trying again…`;
  if (outbox.isFailing) return `Offline: ${outbox.waiting} events are kept and sent later`;
  return "Drawing your first page…";
}

function say(text) {
  clearTimeout(toastTimer);
  find("#toast").textContent = text;
  find("#toast").classList.add("is-shown");
  toastTimer = setTimeout(() => find("#toast").classList.remove("is-shown"), TOAST_MS);
}

function burst(point) {
  const frame = find("#stage").getBoundingClientRect();
  const heart = find("#burst");
  heart.style.setProperty("--x", `${point ? point.x - frame.left : frame.width / 2}px`);
  heart.style.setProperty("--y", `${point ? point.y - frame.top : frame.height * 0.42}px`);
  heart.classList.remove("is-shown");
  void heart.offsetWidth; // starts the animation again
  heart.classList.add("is-shown");
}

function by(item) {
  return item.creator ? `, by ${item.creator}` : "";
}

function isVisible() {
  return document.visibilityState === "visible";
}

function followVisibility() {
  if (isVisible()) watch.resume();
  else watch.pause();
  stage.run(isVisible());
}
