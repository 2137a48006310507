// Topics: which of them have a scene, and the colour by which a feed that turns towards one can be seen
// to change. A topic with a scene has a hue of its own; others get theirs in the order in which they
// come, a golden angle apart: out of a hash, three topics of a feed may well be the same blue.

import { topicOf } from "./words.js";

const ALIASES = {
  art: "crafts", auto: "cars", baking: "cooking", cat: "pets", cats: "pets", diy: "crafts", dog: "pets",
  dogs: "pets", food: "cooking", funny: "comedy", game: "gaming", games: "gaming", garden: "gardening",
  gym: "fitness", humor: "comedy", makeup: "beauty", recipes: "cooking", recipe: "cooking", soccer: "football",
  sport: "football", sports: "football", style: "fashion", workout: "fitness", animals: "pets", song: "music",
};
const HUES = {
  cooking: 45, streetfood: 30, pets: 65, travel: 235, beauty: 0, fashion: 330, gardening: 140,
  crafts: 175, dance: 310, football: 150, comedy: 90, gaming: 290, music: 265, fitness: 20, cars: 250,
  science: 200,
};
const GOLDEN_ANGLE = 137.508;
const FIRST_HUE = 275;
const others = new Map();

/** Return the scene that shows a topic, or "". */
export function sceneOf(topic) {
  const name = topic.toLowerCase().replace(/^#/, "");
  const known = Object.hasOwn(ALIASES, name) ? ALIASES[name] : name;
  return Object.hasOwn(HUES, known) ? known : "";
}

/** Return the hue of an item's topic in degrees, the same throughout a visit. */
export function hueOf(item) {
  return hueOfTopic(topicOf(item));
}

/** Return the hue of a topic in degrees. */
export function hueOfTopic(topic) {
  const scene = sceneOf(topic);
  if (scene) return HUES[scene];
  if (!others.has(topic)) others.set(topic, others.size);
  return (FIRST_HUE + others.get(topic) * GOLDEN_ANGLE) % 360;
}

/** Return a CSS colour of a hue that is as bright as the same colour of any other hue. */
export function colour(hue, lightness = 0.72, chroma = 0.15, alpha = 1) {
  const turned = ((hue % 360) + 360) % 360;
  return `oklch(${lightness} ${chroma} ${turned.toFixed(1)} / ${alpha})`;
}
