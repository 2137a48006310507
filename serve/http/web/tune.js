// A short loop of notes for a poster, made in the browser out of the name of the item's sound: items
// with the same sound have the same tune. Silent until somebody turns the sound on.

import { hashText, seededRandom } from "./hash.js";

const SCALE = [0, 2, 4, 7, 9, 12, 14, 16]; // major pentatonic: no two of its notes clash
const STEPS = 16;
const AHEAD_S = 0.3;
const TICK_MS = 100;
const VOLUME = 0.09;
let context = null;

export class Tune {
  #notes;
  #stepS;
  #base;
  #wave;
  #timer = 0;
  #next = 0;
  #atS = 0;

  constructor(name) {
    const random = seededRandom(hashText(`tune ${name}`));
    this.#stepS = 60 / (88 + 44 * random()) / 2;
    this.#base = 196 * 2 ** (Math.floor(random() * 8) / 12);
    this.#wave = random() < 0.5 ? "triangle" : "sine";
    this.#notes = Array.from({ length: STEPS }, (_, k) =>
      random() < (k % 4 ? 0.55 : 0.95) ? SCALE[Math.floor(random() * SCALE.length)] : null);
  }

  /** Play from the start, over and over. */
  play() {
    if (this.#timer) return;
    context ??= new AudioContext();
    context.resume();
    [this.#next, this.#atS] = [0, context.currentTime + 0.05];
    this.#timer = setInterval(() => this.#schedule(), TICK_MS);
  }

  /** Fall silent. */
  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  #schedule() {
    while (this.#atS < context.currentTime + AHEAD_S) {
      const note = this.#notes[this.#next % STEPS];
      if (note !== null) this.#ring(this.#base * 2 ** (note / 12), VOLUME, this.#stepS * 1.8);
      if (this.#next % 4 === 0) this.#ring(this.#base / 2, VOLUME * 1.3, this.#stepS * 3);
      this.#next += 1;
      this.#atS += this.#stepS;
    }
  }

  #ring(hertz, volume, lengthS) {
    const [voice, gain] = [context.createOscillator(), context.createGain()];
    voice.type = this.#wave;
    voice.frequency.value = hertz;
    gain.gain.setValueAtTime(0, this.#atS);
    gain.gain.linearRampToValueAtTime(volume, this.#atS + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, this.#atS + lengthS);
    voice.connect(gain).connect(context.destination);
    voice.start(this.#atS);
    voice.stop(this.#atS + lengthS);
  }
}
