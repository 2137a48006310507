// What this browser remembers of a user: the likes, saves and follows that are switched on, and whether
// there was a swipe before.

const MOST = 1000;

export class Memory {
  #storage;
  #key;
  #kept;

  constructor(storage, userId) {
    this.#storage = storage;
    this.#key = `nextswipe.memory.${userId}`;
    this.#kept = { like: [], save: [], follow: [], swipes: 0, ...read(storage.getItem(this.#key)) };
  }

  /** Whether nothing was told about anything yet. */
  get isNew() {
    return this.#kept.swipes === 0;
  }

  /** Whether a like or save of an item, or a follow of a creator, is on. */
  has(kind, id) {
    return this.#kept[kind].includes(id);
  }

  /** Switch a like, a save or a follow on or off. */
  set(kind, id, isOn) {
    const others = this.#kept[kind].filter((other) => other !== id);
    this.#kept[kind] = (isOn ? [...others, id] : others).slice(-MOST);
    this.#keep();
  }

  /** Count a swipe. */
  count() {
    this.#kept.swipes += 1;
    this.#keep();
  }

  #keep() {
    this.#storage.setItem(this.#key, JSON.stringify(this.#kept));
  }
}

function read(text) {
  try {
    return JSON.parse(text ?? "{}");
  } catch {
    return {}; // another program's, or cut short: begin again
  }
}
