// The cards of this visit, in the order in which they were drawn, and the place of the one on screen.
// The next page is asked for while three cards are left, so that a swipe never waits.

import { randomId } from "./hash.js";
import { fetchPage, RefusedError } from "./wire.js";

const PAGE_SIZE = 10;
const CARDS_LEFT = 3;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15000;

/**
 * A card: the decision as the server sent it, what was told about it, and for how long it was seen.
 * @typedef {{decision_id: string, slot: number, propensity: number, policy: string, reason: string,
 *   item: object, product?: string, pageId: string, degraded: string, pageNumber: number,
 *   told: Set<string>, seconds: number, reportedS: number, isToStranger: boolean}} Card
 * A card that was opened by a link was not drawn: its `decision_id` is empty.
 */

export class Deck {
  #request;
  #isStranger;
  #onChange;
  #sessionId = randomId();
  #requestId = randomId();
  #failures = 0;
  #timer = 0;

  /**
   * @param request returns the fields of a feed request that are the caller's to know.
   * @param isStranger returns whether nothing is known of the person yet.
   * @param onChange called when cards have come and when asking failed.
   */
  constructor(request, isStranger, onChange) {
    this.#request = request;
    this.#isStranger = isStranger;
    this.#onChange = onChange;
    this.cards = [];
    this.index = -1;
    this.pages = 0;
    this.isFetching = false;
    this.problem = "";
    this.isEmpty = false;
  }

  /** The card on screen. */
  get current() {
    return this.cards[this.index];
  }

  /** Go `step` cards on; return whether there was one. */
  move(step) {
    const target = this.index + step;
    const isThere = target >= 0 && target < this.cards.length;
    if (isThere) this.index = target;
    this.fill();
    return isThere;
  }

  /** Put an item that was opened by a link before all cards. */
  lead(item) {
    const drawn = { decision_id: "", slot: 0, propensity: 1, policy: "", reason: "shared" };
    this.cards.unshift({ ...drawn, item_id: item.item_id, item, ...this.#own("", "") });
  }

  /** Ask again now instead of later. */
  retry() {
    this.#failures = 0;
    return this.fill();
  }

  /** Ask for the next page if few cards are left; the same page again after a failure. */
  async fill() {
    if (this.isFetching || this.cards.length - 1 - this.index > CARDS_LEFT) return;
    clearTimeout(this.#timer);
    this.isFetching = true;
    try {
      this.#add(await fetchPage(this.#nextRequest()));
    } catch (error) {
      this.isEmpty = false;
      this.#retry(error);
    }
    this.isFetching = false;
    this.#onChange();
  }

  #nextRequest() {
    const own = { request_id: this.#requestId, session_id: this.#sessionId, size: PAGE_SIZE };
    return { ...this.#request(), ...own };
  }

  #add(page) {
    this.#requestId = randomId();
    this.isEmpty = !page.items.length;
    if (this.isEmpty) {
      this.#retry(new Error(page.degraded || "the server has no cards"));
      return;
    }
    this.#failures = 0;
    this.problem = "";
    const { page_id: pageId, degraded = "" } = page;
    const led = this.cards[0]?.decision_id === "" ? this.cards[0].item_id : null;
    for (const card of page.items) {
      if (card.item_id !== led) this.cards.push({ ...card, ...this.#own(pageId, degraded) });
    }
    this.pages += 1;
  }

  #own(pageId, degraded) {
    const isToStranger = this.#isStranger();
    return {
      pageId, degraded, isToStranger, pageNumber: this.pages, told: new Set(), seconds: 0, reportedS: 0,
    };
  }

  #retry(error) {
    this.problem = error.message;
    if (error instanceof RefusedError) this.#requestId = randomId();
    const delayMs = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = setTimeout(() => this.fill(), delayMs);
  }
}
