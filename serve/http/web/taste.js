// What the feed has learned of this person, as anybody can count it: how many of the first ten cards
// were of the topic that they answered best, and how many of the latest ten are.

import { topicOf } from "./words.js";

const WINDOW = 10;
const LEAST_WORTH = 2;
const WORTH = { like: 3, save: 3, share: 2, follow: 2, not_interested: -3 };
const WATCHED_S = 8;

/** Return `{topic, first, latest, isTurned}` of the topic answered best, or null while none is. */
export function readTaste(cards, index) {
  const drawn = cards.filter((card) => card.decision_id);
  const seen = drawn.filter((card) => card.told.has("impression"));
  const topic = bestTopic(seen);
  if (!topic) return null;
  const here = drawn.indexOf(cards[index]) + 1 || drawn.length;
  const latest = drawn.slice(Math.max(0, here - WINDOW), here);
  const count = (some) => some.filter((card) => topicOf(card.item) === topic).length;
  const first = drawn.slice(0, WINDOW);
  return { topic, first: count(first), latest: count(latest), isTurned: here > WINDOW };
}

function bestTopic(cards) {
  const worth = new Map();
  for (const card of cards) {
    const topic = topicOf(card.item);
    worth.set(topic, (worth.get(topic) ?? 0) + worthOf(card));
  }
  worth.delete("");
  const [best] = [...worth].sort((a, b) => b[1] - a[1]);
  return best && best[1] >= LEAST_WORTH ? best[0] : "";
}

function worthOf(card) {
  const told = [...card.told].reduce((sum, kind) => sum + (WORTH[kind] ?? 0), 0);
  return told + (card.seconds >= WATCHED_S ? 1 : 0);
}
