// Pictures of topics that have no scene: drawn from the item's id, coloured by its first tag, which
// stands on them in large letters.

import { hashText, seededRandom } from "./hash.js";
import { colour, hueOf } from "./topics.js";
import { topicOf } from "./words.js";

const PICTURES = [drawDunes, drawOrbs, drawRibbons, drawRings, drawTowers];

/** Draw an item's picture over all of a canvas. */
export function drawArt(canvas, item) {
  const random = seededRandom(hashText(item.item_id));
  const pen = canvas.getContext("2d");
  const hue = hueOf(item);
  const turn = (random() < 0.5 ? -1 : 1) * (40 + 40 * random());
  const scene = { pen, random, hue, turn, width: canvas.width, height: canvas.height };
  drawSky(scene);
  PICTURES[Math.floor(random() * PICTURES.length)](scene);
  writeTopic(scene, topicOf(item));
}

function writeTopic({ pen, width, height }, topic) {
  if (!topic) return;
  const text = `#${topic}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.font = "800 100px system-ui, sans-serif";
  const size = Math.min(150, (100 * width * 0.78) / pen.measureText(text).width);
  pen.font = `800 ${size}px system-ui, sans-serif`;
  pen.shadowColor = "#0008";
  pen.shadowBlur = size / 4;
  pen.fillStyle = "#fff";
  pen.fillText(text, width / 2, height * 0.36);
  pen.shadowBlur = 0;
}

function drawSky({ pen, random, hue, turn, width, height }) {
  const slant = width * (random() - 0.5);
  const sky = pen.createLinearGradient(width / 2 - slant, 0, width / 2 + slant, height);
  sky.addColorStop(0, colour(hue, 0.5, 0.16));
  sky.addColorStop(0.55, colour(hue + turn * 0.5, 0.36, 0.13));
  sky.addColorStop(1, colour(hue + turn, 0.2, 0.08));
  pen.fillStyle = sky;
  pen.fillRect(0, 0, width, height);
}

function drawDunes({ pen, random, hue, turn, width, height }) {
  const sunX = width * (0.2 + 0.6 * random());
  glow(pen, sunX, height * 0.3, width * 0.75, colour(hue - turn * 0.4, 0.85, 0.12, 0.6));
  pen.fillStyle = colour(hue - turn * 0.4, 0.92, 0.09);
  disc(pen, sunX, height * 0.3, width * (0.1 + 0.08 * random()));
  for (let layer = 0; layer < 5; layer += 1) {
    const depth = layer / 4;
    const base = height * (0.4 + 0.13 * layer);
    const [first, second] = [random() * 7, random() * 7];
    pen.fillStyle = colour(hue + turn * depth, 0.5 - 0.09 * layer, 0.13 - 0.02 * layer);
    pen.beginPath();
    pen.moveTo(0, height);
    for (let x = 0; x <= width; x += 4) {
      const at = x / width;
      const wave = Math.sin(at * 4 + first) * 0.045 + Math.sin(at * 9 + second) * 0.015;
      pen.lineTo(x, base + wave * height);
    }
    pen.lineTo(width, height);
    pen.fill();
  }
}

function drawOrbs({ pen, random, hue, turn, width, height }) {
  pen.globalCompositeOperation = "screen";
  for (let orb = 0; orb < 22; orb += 1) {
    const radius = width * (0.05 + 0.28 * random() ** 2);
    const [x, y] = [width * random(), height * (0.02 + 0.75 * random())];
    const tint = hue + turn * (random() * 1.6 - 0.4);
    const body = pen.createRadialGradient(x, y, 0, x, y, radius);
    body.addColorStop(0, colour(tint, 0.7, 0.16, 0.3));
    body.addColorStop(0.88, colour(tint, 0.76, 0.14, 0.42));
    body.addColorStop(1, colour(tint, 0.76, 0.14, 0));
    pen.fillStyle = body;
    disc(pen, x, y, radius);
  }
  pen.globalCompositeOperation = "source-over";
}

function drawRibbons({ pen, random, hue, turn, width, height }) {
  const [rise, bend, sway] = [random() - 0.5, 0.3 + 0.4 * random(), random() * 7];
  pen.lineCap = "round";
  for (let ribbon = 0; ribbon < 34; ribbon += 1) {
    const share = ribbon / 33;
    const y = height * (0.02 + 0.8 * share);
    const swing = height * 0.16 * Math.sin(share * 5 + sway);
    pen.strokeStyle = colour(hue + turn * share, 0.8 - 0.4 * share, 0.16, 0.55);
    pen.lineWidth = width * (0.012 + 0.022 * Math.abs(Math.sin(share * 7 + sway)));
    pen.beginPath();
    pen.moveTo(-width * 0.1, y);
    pen.bezierCurveTo(
      width * bend, y - swing, width * (1 - bend), y + swing + rise * height * 0.2,
      width * 1.1, y + rise * height * 0.3,
    );
    pen.stroke();
  }
}

function drawRings({ pen, random, hue, turn, width, height }) {
  const [x, y] = [width * (0.25 + 0.5 * random()), height * (0.28 + 0.16 * random())];
  glow(pen, x, y, width * 0.9, colour(hue, 0.8, 0.16, 0.45));
  for (let ring = 15; ring > 0; ring -= 1) {
    const start = random() * Math.PI * 2;
    pen.strokeStyle = colour(hue + (turn * ring) / 9, 0.88 - 0.032 * ring, 0.15, 0.85);
    pen.lineWidth = width * (0.008 + 0.03 * random());
    pen.lineCap = "round";
    pen.beginPath();
    pen.arc(x, y, width * 0.055 * ring, start, start + Math.PI * (0.5 + 1.3 * random()));
    pen.stroke();
  }
  pen.fillStyle = colour(hue - turn * 0.3, 0.94, 0.08);
  disc(pen, x, y, width * 0.035);
}

function drawTowers({ pen, random, hue, turn, width, height }) {
  glow(pen, width * random(), height * 0.5, width, colour(hue - turn * 0.3, 0.8, 0.15, 0.6));
  for (let row = 0; row < 3; row += 1) {
    const step = width / (7 - row);
    for (let x = -step * random(); x < width; x += step) {
      const top = height * (0.24 + 0.15 * row + 0.2 * random());
      pen.fillStyle = colour(hue + turn * (0.3 + 0.3 * row), 0.42 - 0.1 * row, 0.1);
      pen.fillRect(x, top, step * 0.86, height - top);
      lightWindows({ pen, random, hue, turn }, x, top, step * 0.86, height);
    }
  }
}

function lightWindows({ pen, random, hue, turn }, x, top, wide, height) {
  const size = wide / 7;
  for (let y = top + size * 2; y < height; y += size * 2.6) {
    for (let column = 0; column < 3; column += 1) {
      pen.fillStyle = colour(hue - turn * 0.4, 0.88, 0.11, random() < 0.42 ? 0.75 : 0.07);
      pen.fillRect(x + size * (1 + 2 * column), y, size, size * 1.3);
    }
  }
}

function glow(pen, x, y, radius, tint) {
  const light = pen.createRadialGradient(x, y, 0, x, y, radius);
  light.addColorStop(0, tint);
  light.addColorStop(1, "transparent");
  pen.fillStyle = light;
  pen.fillRect(x - radius, y - radius, radius * 2, radius * 2);
}

function disc(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, Math.PI * 2);
  pen.fill();
}
