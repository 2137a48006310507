// The poster of an item: a scene that shows its topic, with a sticker for the kind of video, drawn by
// code and moving in a loop. An item's id decides the variant, so a card looks the same everywhere.

import { drawArt } from "./art.js";
import { hashText, seededRandom } from "./hash.js";
import * as home from "./scenes_home.js";
import * as play from "./scenes_play.js";
import { at, box, disc, line, mirrored, moving, row, shape } from "./shapes.js";
import { sceneOf } from "./topics.js";
import { topicOf } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ART = { width: 540, height: 1168 };
const READ = ["comedy"]; // has letters in it
const SCENES = { ...home, ...play };

/** Return the picture of an item: an SVG where its topic has a scene, else a canvas. */
export function makePoster(item) {
  const scene = sceneOf(topicOf(item));
  return scene ? makeScene(scene, item) : makeCanvas(item);
}

function makeScene(scene, item) {
  const random = seededRandom(hashText(item.item_id));
  const picture = SCENES[scene](random, item.title ?? "");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 360 780");
  svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
  svg.setAttribute("class", "art poster");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = (READ.includes(scene) || random() < 0.5 ? picture : mirrored(picture)) + stickerOf(item); // no word of the item
  return svg;
}

function makeCanvas(item) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, ART);
  canvas.className = "art drift";
  drawArt(canvas, item);
  return canvas;
}

// --- stickers ---

const INK = "#1d1a24";
const STICKERS = {
  basics: ["#fff", row(3, (k) => disc(k * 17 - 17, 14 - k * 14, 8, ["#3d7dca", "#f4a300", "#e4572e"][k])) + line("M-17 14L17 -14", INK, 3)],
  daily: ["#fff4c9", disc(0, 0, 11, "#f4a300") + row(8, (k) => at(0, 0, line("M0 -17V-23", "#f4a300", 5), k * 45))],
  challenge: ["#fff", disc(0, 3, 18, "none", { stroke: INK, "stroke-width": 5 }) + line("M0 3V-8M0 3L8 8M-6 -24H6", INK, 5)],
  review: ["#ffe27a", shape("M0 -24L7 -8L24 -7L11 4L16 21L0 12L-16 21L-11 4L-24 -7L-7 -8z", "#e4572e")],
  tips: ["#fff", shape("M-8 10Q-20 0 -15 -12Q-10 -24 0 -24Q10 -24 15 -12Q20 0 8 10z", "#ffc93c") + box(-8, 12, 16, 5, INK, 2) + box(-6, 19, 12, 5, INK, 2)],
  live: ["#e5263f", moving("beat", disc(0, 0, 8, "#fff") + line("M-14 -13Q-22 0 -14 13M14 -13Q22 0 14 13", "#fff", 5))],
  fails: ["#ffd9d2", shape("M0 -26L6 -11L21 -19L15 -3L28 4L12 9L14 26L0 15L-14 26L-12 9L-28 4L-15 -3L-21 -19L-6 -11z", "#e4572e") + line("M0 -8V4M0 11V11.1", "#fff", 6)],
  story: ["#dff1ff", shape("M-22 -18H22V10H2L-10 22V10H-22z", "#3d7dca") + row(3, (k) => disc(k * 11 - 11, -4, 4, "#fff"))],
};

function stickerOf(item) {
  const kind = (item.tags ?? []).map((tag) => tag.split("/")[1]).find((part) => Object.hasOwn(STICKERS, part ?? ""));
  if (!kind) return "";
  const [ground, mark] = STICKERS[kind];
  return at(52, 142, moving("wiggle", disc(2, 4, 37, "#00000030") + disc(0, 0, 37, "#fff") + disc(0, 0, 32, ground) + mark), -8, 0.86);
}
