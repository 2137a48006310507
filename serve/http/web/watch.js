// What a person does about the card on screen, told to the server: seen, dwell, like, leave.
//
// Dwell counts only while the page is visible. It is reported at the swipe, every 10 s before it,
// and when the page is hidden (a phone may never wake it again); the server keeps the longest.

const REPORT_EVERY_S = 10;
const LONGEST_S = 86400;

export class Watch {
  #outbox;
  #card = null;
  #sinceMs = null;
  #timer = 0;

  constructor(outbox) {
    this.#outbox = outbox;
  }

  /** Take over from the card before: this one is on screen now. */
  show(card) {
    this.#finish();
    this.#card = card;
    if (document.visibilityState === "visible") this.resume();
  }

  /** The page is visible: the card is seen, its time runs. */
  resume() {
    if (!this.#card || this.#sinceMs !== null) return;
    this.tell("impression");
    this.#sinceMs = performance.now();
    this.#timer = setInterval(() => this.#reportIfDue(), 1000);
  }

  /** The page is hidden: the time stands still. */
  pause() {
    this.#count();
    this.#sinceMs = null;
    clearInterval(this.#timer);
    this.#report();
  }

  /** The person has gone. */
  leave() {
    this.#finish();
    if (this.#card?.told.has("impression")) this.tell("leave");
  }

  /** Tell an event about the card on screen, once; return whether it was news. What was not drawn has
   * no decision to tell about. */
  tell(kind) {
    if (!this.#card?.decision_id || this.#card.told.has(kind)) return false;
    this.#card.told.add(kind);
    this.#outbox.add(this.#card.decision_id, kind);
    return true;
  }

  /** Tell that a switch is on now, or off: the kind that takes it back may be told again. */
  turn(kind, opposite) {
    this.#card?.told.delete(opposite);
    return this.tell(kind);
  }

  /** Return the seconds for which the card on screen was seen. */
  seconds() {
    this.#count();
    return this.#card?.seconds ?? 0;
  }

  #finish() {
    if (this.#card) this.pause();
  }

  #count() {
    if (this.#sinceMs === null) return;
    const now = performance.now();
    this.#card.seconds = Math.min(LONGEST_S, this.#card.seconds + (now - this.#sinceMs) / 1000);
    this.#sinceMs = now;
  }

  #reportIfDue() {
    this.#count();
    if (this.#card.seconds - this.#card.reportedS >= REPORT_EVERY_S) this.#report();
  }

  #report() {
    const card = this.#card;
    if (!card?.told.has("impression") || card.seconds <= card.reportedS) return;
    card.reportedS = card.seconds;
    this.#outbox.add(card.decision_id, "dwell", Number(card.seconds.toFixed(3)));
  }
}
