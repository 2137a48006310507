// "Why this?": how the card on screen was chosen, what was told about it, and how the feed moved.
// It shows the decision as it stands in the log, because that is what is learned from.

import { colour, hueOf } from "./topics.js";
import { describeOdds, describeReason, formatChance, titleOf, topicOf } from "./words.js";

const STRIP_CARDS = 60;
const TOPICS_CARDS = 20;
const TOPICS_SHOWN = 5;
const LEAST_CHANCE = 1e-3; // the left end of the scale, which is logarithmic

export class Panel {
  #root;
  #deck;

  constructor(root, deck) {
    this.#root = root;
    this.#deck = deck;
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  toggle(isOpen = !this.isOpen) {
    this.#root.hidden = !isOpen;
    return isOpen;
  }

  /** Show the deck's current card and the visit so far. */
  show() {
    const card = this.#deck.current;
    if (!card) return;
    this.#writeDecision(card);
    this.#drawStrip();
    this.#drawTopics();
  }

  /** Show what was told about the card on screen, and what became of all events. */
  showTold(card, seconds, outbox) {
    const told = [...card.told].map((kind) => kind.replace("_", " "));
    this.#write("told", `${told.join(", ")} · ${seconds.toFixed(1)} s on screen`);
    const waiting = outbox.waiting ? `, ${outbox.waiting} on the way` : "";
    const refused = outbox.refused ? `, ${outbox.refused} refused` : "";
    this.#write("events", `${outbox.stored} in the log${waiting}${refused}`);
    const bar = this.#root.querySelector(`[data-place="${this.#deck.index}"]`);
    if (bar) drawBar(bar, card);
  }

  #writeDecision(card) {
    const [, explanation] = describeReason(card);
    this.#root.classList.toggle("is-undrawn", !card.decision_id);
    const [name, version] = splitPolicy(card.policy);
    this.#write("reason", card.reason);
    this.#write("explanation", explanation);
    this.#write("policy", name);
    this.#write("version", version);
    this.#write("propensity", formatChance(card.propensity));
    this.#write("odds", describeOdds(card.propensity));
    this.#write("exact", String(card.propensity));
    this.#write("slot", `${card.slot + 1} of page ${card.pageNumber + 1}`);
    this.#write("decision", card.decision_id.split(".")[0]);
    this.#write("degraded", card.degraded);
    this.#root.querySelector(".degraded").hidden = !card.degraded;
    const share = 1 - Math.log(Math.max(card.propensity, LEAST_CHANCE)) / Math.log(LEAST_CHANCE);
    this.#root.style.setProperty("--chance", share.toFixed(3));
    this.#root.style.setProperty("--tint", colour(hueOf(card.item)));
    this.#write("moves", describeMoves(this.#seen()));
  }

  #seen() {
    return this.#deck.cards.filter((card) => card.told.has("impression"));
  }

  #drawStrip() {
    const { cards, index } = this.#deck;
    const from = Math.max(0, cards.length - STRIP_CARDS);
    const bars = cards.slice(from).map((card, i) => {
      const bar = document.createElement("i");
      bar.dataset.place = from + i;
      bar.classList.toggle("is-first", card.slot === 0);
      bar.classList.toggle("is-here", from + i === index);
      drawBar(bar, card);
      return bar;
    });
    this.#root.querySelector(".strip").replaceChildren(...bars);
  }

  #drawTopics() {
    const counts = new Map();
    for (const { item } of this.#seen().slice(-TOPICS_CARDS)) {
      const name = topicOf(item) || "no tag";
      const topic = counts.get(name) ?? { name, hue: hueOf(item), n: 0 };
      counts.set(name, { ...topic, n: topic.n + 1 });
    }
    const top = [...counts.values()].sort((a, b) => b.n - a.n).slice(0, TOPICS_SHOWN);
    const entries = top.map(({ name, hue, n }) => {
      const entry = document.createElement("li");
      entry.textContent = `${name} ${n}`;
      entry.style.setProperty("--tint", colour(hue));
      return entry;
    });
    this.#root.querySelector(".topics").replaceChildren(...entries);
  }

  #write(name, text) {
    this.#root.querySelector(`[data-show="${name}"]`).textContent = text;
  }
}

/** Return `[name, version]` of a policy's `name@version`. */
export function splitPolicy(policy) {
  const at = policy.lastIndexOf("@");
  return at < 0 ? [policy, ""] : [policy.slice(0, at), policy.slice(at + 1)];
}

function drawBar(bar, card) {
  const isSeen = card.told.has("impression");
  const watched = Math.min(1, card.seconds / (card.item.duration_s || 30));
  bar.title = isSeen ? `${titleOf(card.item)}: ${card.seconds.toFixed(1)} s` : "not seen yet";
  bar.style.setProperty("--tint", colour(hueOf(card.item)));
  bar.style.setProperty("--watched", isSeen ? (0.12 + 0.88 * watched).toFixed(3) : "0.05");
  bar.classList.toggle("is-unseen", !isSeen);
  bar.classList.toggle("is-liked", card.told.has("like"));
  bar.classList.toggle("is-unwanted", card.told.has("not_interested"));
}

function describeMoves(cards) {
  const policies = cards.map((card) => card.policy);
  const moves = policies.filter((policy, i) => i > 0 && policy !== policies[i - 1]).length;
  if (moves) return `It has moved ${moves === 1 ? "once" : `${moves} times`} since you came.`;
  return "Keep swiping: pages to come may be ranked by a newer version.";
}
