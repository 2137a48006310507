// The strip of cards that moves up and down: the one on screen, the one before, the one after.

import { CardView } from "./card.js";

const BUMP_MS = 260;

export class Stage {
  #views = new Map();
  #strip;
  #template;
  #deck;
  #isMuted = true;

  constructor(strip, template, deck) {
    this.#strip = strip;
    this.#template = template;
    this.#deck = deck;
  }

  /** The card on screen, as drawn. */
  get current() {
    return this.#views.get(this.#deck.index);
  }

  /** Show the deck's current card, keep its neighbours at hand, drop the rest. */
  show(isVisible) {
    const { index, cards } = this.#deck;
    for (const [place, view] of this.#views) {
      if (Math.abs(place - index) <= 1) continue;
      view.remove();
      this.#views.delete(place);
    }
    for (const place of [index - 1, index, index + 1]) {
      if (cards[place] && !this.#views.has(place)) this.#add(place, cards[place]);
    }
    this.#strip.style.setProperty("--index", index);
    this.run(isVisible);
  }

  /** Play the card on screen if somebody looks; all others stand still. */
  run(isVisible) {
    for (const [place, view] of this.#views) {
      const isCurrent = place === this.#deck.index;
      view.element.inert = !isCurrent;
      view.element.classList.toggle("is-current", isCurrent);
      if (isCurrent && isVisible) view.play(this.#isMuted);
      else view.pause();
    }
  }

  /** Follow the finger by so many pixels. */
  drag(px) {
    const isAtTop = this.#deck.index <= 0 && px > 0;
    this.#strip.classList.toggle("is-dragged", px !== 0);
    this.#strip.style.setProperty("--drag", `${isAtTop ? px / 4 : px}px`);
  }

  /** Show that there is nothing in this direction. */
  bump(step) {
    const away = { transform: `translateY(calc(var(--index) * -100% - ${step * 18}px))` };
    this.#strip.animate([{}, away, {}], { duration: BUMP_MS, easing: "ease-out" });
  }

  /** Turn the sound on or off; return whether it is off now. */
  toggleSound() {
    this.#isMuted = !this.#isMuted;
    this.current?.play(this.#isMuted);
    return this.#isMuted;
  }

  #add(place, card) {
    const view = new CardView(card, this.#template, Date.now());
    view.element.style.setProperty("--place", place);
    this.#views.set(place, view);
    this.#strip.append(view.element);
  }
}
