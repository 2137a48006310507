// Events on their way to the server: kept in order, posted once, sent again only with the same id.
//
// An event leaves the outbox when the server has it on disk or refuses it. A failure is followed by
// the same events with the same ids, so that one whose answer was lost counts once. Whatever is left
// when the page goes is handed to the browser; after a failure it is stored for the next visit.

import { randomId } from "./hash.js";
import { beaconEvents, postEvents, RefusedError } from "./wire.js";

const KEY = "nextswipe.outbox";
const BATCH = 100;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30000;

export class Outbox {
  #waiting = [];
  #sending = [];
  #failures = 0;
  #timer = 0;
  #storage;
  #onChange;

  /** @param onChange called with the counts after each change. */
  constructor(storage, onChange) {
    this.#storage = storage;
    this.#onChange = onChange;
    this.stored = 0;
    this.refused = 0;
    this.#restore();
    addEventListener("online", () => this.#schedule(0));
  }

  /** Events that the server has not acknowledged yet. */
  get waiting() {
    return this.#waiting.length + this.#sending.length;
  }

  /** Whether the last attempt failed. */
  get isFailing() {
    return this.#failures > 0;
  }

  /** Post an event about a decision, soon. */
  add(decisionId, kind, value) {
    const event = { event_id: randomId(), decision_id: decisionId, kind, at_ms: Date.now() };
    this.#waiting.push(value === undefined ? event : { ...event, value });
    if (!this.isFailing) this.#schedule(0);
    this.#onChange(this);
  }

  /** Hand over what waits: the page is going and cannot wait for an answer. */
  handOver() {
    if (!this.isFailing && this.#waiting.length && beaconEvents(this.#waiting)) {
      this.stored += this.#waiting.length;
      this.#waiting = [];
    }
    if (this.#waiting.length) this.#storage.setItem(KEY, JSON.stringify(this.#waiting));
  }

  #restore() {
    const kept = this.#storage.getItem(KEY);
    if (!kept) return;
    this.#storage.removeItem(KEY);
    this.#waiting.push(...JSON.parse(kept));
    this.#schedule(0);
  }

  #schedule(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#send(), delayMs);
  }

  async #send() {
    if (this.#sending.length || !this.#waiting.length) return;
    this.#sending = this.#waiting.splice(0, BATCH);
    try {
      const answer = await postEvents(this.#sending);
      this.#settle(answer.accepted + answer.duplicates, answer.refused);
    } catch (error) {
      if (error instanceof RefusedError) this.#settle(0, [{ reason: error.message }]);
      else this.#keep(error);
    }
    this.#onChange(this);
    if (this.#waiting.length && !this.isFailing) this.#schedule(0);
  }

  #settle(stored, refused) {
    this.stored += stored;
    this.refused += this.#sending.length - stored;
    this.#sending = [];
    this.#failures = 0;
    for (const refusal of refused) console.warn("event refused:", refusal);
  }

  #keep(error) {
    console.warn("events kept for later:", error.message);
    this.#waiting.unshift(...this.#sending);
    this.#sending = [];
    this.#schedule(Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures));
    this.#failures += 1;
  }
}
