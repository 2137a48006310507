// The page: puts deck, stage, watch and panel together, and says what each action does.

import { Deck } from "./deck.js";
import { listenToKeys, listenToTouch, listenToWheel } from "./gestures.js";
import { Memory } from "./memory.js";
import { Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { identify, newUserId, observeScene } from "./person.js";
import { Stage } from "./stage.js";
import { readTaste } from "./taste.js";
import { followTheme, turnTheme } from "./theme.js";
import { colour, hueOf, hueOfTopic } from "./topics.js";
import { Watch } from "./watch.js";
import { fetchItem } from "./wire.js";
import { initialsOf, titleOf } from "./words.js";

const TOAST_MS = 1800;
const TICK_MS = 500;
const PANEL_KEY = "nextswipe.why";

const find = (selector) => document.querySelector(selector);
const userId = identify(location, localStorage);
const memory = new Memory(localStorage, userId);
let toastTimer = 0;
let isPastEnd = false;

const outbox = new Outbox(localStorage, showOutbox);
const watch = new Watch(outbox);
const deck = new Deck(
  () => ({ user_id: userId, scene: observeScene() }), () => memory.isNew, showFetched,
);
const stage = new Stage(find("#strip"), find("#card"), deck);
const panel = new Panel(find("#panel"), deck);

const ACTIONS = {
  next: () => swipe(1),
  previous: () => swipe(-1),
  like: (point) => (point ? like(point) : turnLike()),
  save: () => save(),
  share: () => share(),
  follow: () => follow(),
  not_interested: () => dismiss(),
  product: () => watch.tell("product_click"),
  sound: () => toggleSound(),
  why: () => togglePanel(),
  close: () => (find("#shared").hidden ? togglePanel(false) : closeShared()),
  copy: () => copyLink(),
  retry: () => deck.retry(),
  theme: () => turnTheme(localStorage),
};
const ALWAYS = ["why", "close", "retry", "theme"];

start();

async function start() {
  followTheme(localStorage);
  find("#user").textContent = userId;
  find("#stranger").href = `?user=${newUserId()}`;
  togglePanel(localStorage.getItem(PANEL_KEY) === "true");
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
  await openLink(new URLSearchParams(location.search).get("card"));
  deck.fill();
}

/** Show the card of a shared link first; the feed follows it. */
async function openLink(itemId) {
  if (!itemId) return;
  try {
    const item = await fetchItem(itemId);
    if (item) deck.lead(item);
    else say("That video is not here any more");
    showFetched();
  } catch (error) {
    console.warn("the shared card did not come:", error.message);
  }
}

function act(action, point) {
  if (deck.current || ALWAYS.includes(action)) ACTIONS[action](point);
}

// --- what the actions do ---

function swipe(step) {
  closeShared();
  if (isPastEnd && step < 0) {
    isPastEnd = false;
    showStatus();
  } else if (deck.move(step)) {
    memory.count();
    showCard();
  } else {
    isPastEnd = step > 0;
    stage.bump(step);
    showStatus();
  }
}

function like(point) {
  burst(point);
  memory.set("like", deck.current.item_id, true);
  watch.turn("like", "unlike");
  say("Liked");
  showActions();
}

function turnLike() {
  if (!memory.has("like", deck.current.item_id)) return like();
  memory.set("like", deck.current.item_id, false);
  watch.turn("unlike", "like");
  say("Like removed");
  return showActions();
}

function follow() {
  const { creator } = deck.current.item;
  if (!creator) return;
  const isOn = !memory.has("follow", creator);
  memory.set("follow", creator, isOn);
  if (isOn) watch.turn("follow", "unfollow");
  else watch.turn("unfollow", "follow");
  say(isOn ? `Following @${creator}` : `No longer following @${creator}`);
  showActions();
}

function save() {
  const { item_id: itemId } = deck.current;
  const isOn = !memory.has("save", itemId);
  memory.set("save", itemId, isOn);
  if (isOn) watch.turn("save", "unsave");
  else watch.turn("unsave", "save");
  say(isOn ? "Saved" : "Saved no longer");
  showActions();
}

async function share() {
  watch.tell("share");
  showActions();
  const link = new URL(".", document.baseURI);
  link.searchParams.set("card", deck.current.item_id);
  find("#link").textContent = link.href;
  find("#shared-title").textContent = titleOf(deck.current.item);
  find("#shared").hidden = false;
  document.body.classList.add("is-sharing");
  await copyLink();
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(find("#link").textContent);
    find("#copy").textContent = "Copied";
  } catch {
    find("#copy").textContent = "Copy"; // no clipboard without https or permission: it can be selected
    getSelection().selectAllChildren(find("#link"));
  }
}

function closeShared() {
  find("#shared").hidden = true;
  document.body.classList.remove("is-sharing");
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
  const isFirst = deck.index < 0 && deck.cards.length > 0;
  const isMore = isPastEnd && deck.index < deck.cards.length - 1;
  if (isFirst || isMore) deck.move(1);
  if (isMore) isPastEnd = false;
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
  find("#sound").hidden = !stage.current.hasSound;
  showActions();
  showStatus();
  panel.show();
  showTold();
}

function showActions() {
  const { item, told } = deck.current;
  const isFollowed = memory.has("follow", item.creator);
  press("like", memory.has("like", item.item_id));
  press("save", memory.has("save", item.item_id));
  press("share", told.has("share"));
  press("not_interested", told.has("not_interested"));
  press("follow", isFollowed);
  find("#follow").hidden = !item.creator;
  find("#avatar").textContent = initialsOf(item.creator ?? "");
  const verb = isFollowed ? "Unfollow" : "Follow";
  find("#follow").setAttribute("aria-label", `${verb} ${item.creator ?? ""}`);
  showTold();
}

function press(action, isPressed) {
  find(`#actions [data-action=${action}]`).setAttribute("aria-pressed", String(isPressed));
}

function showTold() {
  showTaste();
  if (deck.current && panel.isOpen) panel.showTold(deck.current, watch.seconds(), outbox);
}

function showOutbox() {
  showStatus();
  showTold();
}

function showStatus() {
  const isWhole = !deck.current || isPastEnd;
  const isFailing = Boolean(deck.problem) || outbox.isFailing;
  const status = find("#status");
  find("#loading").hidden = Boolean(deck.current) || isFailing;
  status.hidden = !(isWhole || isFailing);
  status.classList.toggle("is-whole", isWhole && isFailing);
  status.classList.toggle("is-empty", deck.isEmpty);
  document.body.classList.toggle("is-waiting", isWhole);
  document.body.classList.toggle("is-bare", !deck.current);
  const [title, text] = describeStatus(isWhole);
  find("#status-title").textContent = title;
  find("#status-text").textContent = text;
}

function describeStatus(isWhole) {
  const kept = outbox.waiting ? ` ${outbox.waiting} events are kept and sent then.` : "";
  if (deck.isEmpty) {
    return ["Nothing to show yet", `The server says: ${deck.problem}. Import a catalogue or upload an item, and it appears here by itself.`];
  }
  if (isWhole && (deck.problem || outbox.isFailing)) {
    return ["The feed is not answering", `Is the server running? It is started by: nextswipe up. This page goes on by itself once it is back.${kept}`];
  }
  if (outbox.isFailing) return ["Offline", `${outbox.waiting} events are kept and sent later`];
  if (deck.problem) return ["No new cards", "asking again…"];
  return ["", deck.current ? "The next page is on its way…" : "Drawing your first page…"];
}

/** Say what the feed learned, as a count that anybody can check by swiping. */
function showTaste() {
  const taste = readTaste(deck.cards, deck.index);
  find("#taste").hidden = !taste;
  if (!taste) return;
  const { topic, first, latest, isTurned } = taste;
  find("#taste").style.setProperty("--tint", colour(hueOfTopic(topic)));
  find("#taste-topic").textContent = topic;
  find("#taste-count").textContent = isTurned
    ? `${first} in your first 10, ${latest} in these 10` : "noted: the next pages follow you";
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
