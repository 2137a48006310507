// One card as it is drawn: poster, picture or video, what it is called, by whom, how long it runs, and where
// its product is sold, if one may be offered.

import { makePoster } from "./poster.js";
import { colour, hueOf } from "./topics.js";
import { Tune } from "./tune.js";
import { describeItem, describeReason, describeTag, titleOf } from "./words.js";

const IMAGE = /\.(avif|gif|jpe?g|png|svg|webp)$/i;
const MAX_TAGS = 5;

/** A card on the stage; `play` and `pause` follow whether somebody is looking. */
export class CardView {
  #video = null;
  #progress = null;
  #tune = null;

  constructor(card, template, nowMs) {
    this.card = card;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.setAttribute("aria-label", titleOf(card.item));
    this.element.style.setProperty("--tint", colour(hueOf(card.item)));
    this.element.style.setProperty("--deep", colour(hueOf(card.item), 0.28, 0.09));
    this.#paint();
    this.#write(nowMs);
    this.#time();
    this.pause();
  }

  /** Whether there is something to hear. */
  get hasSound() {
    return Boolean(this.#video ?? this.#tune);
  }

  /** Run: the card is on screen and somebody looks. */
  play(isMuted) {
    this.element.classList.add("is-playing");
    this.#progress?.play();
    if (isMuted) this.#tune?.stop();
    else this.#tune?.play();
    if (!this.#video) return;
    this.#video.muted = isMuted;
    this.#video.play().catch((error) => console.warn("video does not play:", error.message));
  }

  /** Stand still. */
  pause() {
    this.element.classList.remove("is-playing");
    this.#progress?.pause();
    this.#tune?.stop();
    this.#video?.pause();
  }

  /** Let go of what takes memory. */
  remove() {
    this.#tune?.stop();
    this.#video?.removeAttribute("src");
    this.#video?.load();
    this.#progress?.cancel();
    this.element.remove();
  }

  #part(name) {
    return this.element.querySelector(`.${name}`);
  }

  #paint() {
    const poster = makePoster(this.card.item);
    this.element.prepend(poster);
    const address = webAddress(this.card.item.media);
    if (!address && this.card.item.sound) this.#tune = new Tune(this.card.item.sound);
    if (!address) return;
    if (IMAGE.test(address.pathname)) this.#addImage(poster, address.href);
    else this.#addVideo(poster, address.href);
  }

  #addImage(poster, address) {
    const image = document.createElement("img");
    Object.assign(image, { src: address, alt: "", className: "film", decoding: "async", draggable: false });
    image.addEventListener("error", () => image.remove()); // the picture behind it stays
    image.addEventListener("load", () => {
      image.classList.toggle("is-upright", image.naturalHeight > image.naturalWidth);
    });
    poster.after(image);
  }

  #addVideo(poster, address) {
    const video = document.createElement("video");
    Object.assign(video, { src: address, loop: true, muted: true, playsInline: true });
    video.className = "film";
    video.preload = "auto";
    video.addEventListener("error", () => {
      video.remove();
      this.#video = null;
      this.#addImage(poster, address); // an address need not say that it is a picture
    });
    poster.after(video);
    this.#video = video;
  }

  #write(nowMs) {
    const { item } = this.card;
    const [badge] = describeReason(this.card);
    this.#part("badge").textContent = badge;
    this.#part("creator").textContent = item.creator ? `@${item.creator}` : "";
    this.#part("title").textContent = titleOf(item);
    if (item.language) this.#part("title").lang = item.language.replace("_", "-");
    this.#part("facts").textContent = describeItem(item, nowMs);
    for (const tag of (item.tags ?? []).slice(0, MAX_TAGS)) {
      const entry = document.createElement("li");
      entry.textContent = describeTag(tag);
      this.#part("tags").append(entry);
    }
    this.#offer(webAddress(this.card.product));
  }

  #offer(address) {
    const link = this.#part("product");
    link.hidden = !address;
    if (!address) return;
    link.href = address.href;
    link.title = address.href;
    this.#part("shop").textContent = address.host;
  }

  #time() {
    const { duration_s: durationS } = this.card.item;
    this.#part("progress").hidden = !durationS;
    if (!durationS) return;
    const frames = [{ transform: "scaleX(0)" }, { transform: "scaleX(1)" }];
    const timing = { duration: durationS * 1000, iterations: Infinity };
    this.#progress = this.#part("elapsed").animate(frames, timing);
  }
}

function webAddress(text) {
  if (!text || !URL.canParse(text, document.baseURI)) return null;
  const address = new URL(text, document.baseURI);
  return /^https?:$/.test(address.protocol) ? address : null;
}
