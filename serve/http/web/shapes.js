// The pieces of which posters are made, as SVG text. It holds numbers and colours of this page only,
// never words of an item, so it may be put into the page as it is.

/** Return `tag` with attributes; `inner` is markup of this module. */
export function tag(name, attributes, inner = "") {
  const text = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`).join("");
  return inner ? `<${name}${text}>${inner}</${name}>` : `<${name}${text}/>`;
}

export const disc = (x, y, r, fill, more = {}) => tag("circle", { cx: x, cy: y, r, fill, ...more });

export const oval = (x, y, rx, ry, fill, more = {}) =>
  tag("ellipse", { cx: x, cy: y, rx, ry, fill, ...more });

export const box = (x, y, width, height, fill, rx = 0, more = {}) =>
  tag("rect", { x, y, width, height, fill, rx, ...more });

export const shape = (d, fill, more = {}) => tag("path", { d, fill, ...more });

export const line = (d, stroke, width, more = {}) =>
  tag("path", {
    d, fill: "none", stroke, "stroke-width": width,
    "stroke-linecap": "round", "stroke-linejoin": "round", ...more,
  });

/** Return a group that moves as a class of the stylesheet says: bob, sway, spin, rise, beat ... */
export const moving = (motion, inner) => tag("g", { class: motion }, inner);

/** Return a group at a place, turned by degrees and sized. */
export const at = (x, y, inner, turn = 0, size = 1) =>
  tag("g", { transform: `translate(${x} ${y}) rotate(${turn}) scale(${size})` }, inner);

/** Return a group mirrored about the middle of the poster. */
export const mirrored = (inner) => tag("g", { transform: "translate(360 0) scale(-1 1)" }, inner);

/** Return n pieces, each made by `make(k)`. */
export const row = (n, make) => Array.from({ length: n }, (_, k) => make(k)).join("");

/** Return one of the choices. */
export const pick = (random, choices) => choices[Math.floor(random() * choices.length)];

/** Return a wall and a floor. */
export const room = (wall, floor, y = 470) =>
  box(0, 0, 360, 780, wall) + box(0, y, 360, 780 - y, floor) + box(0, y, 360, 6, "#00000022");

/** Return a beam or halo of light around a point. */
export const halo = (x, y, r, fill = "#fff") =>
  disc(x, y, r, fill, { opacity: 0.1 }) + disc(x, y, r * 0.72, fill, { opacity: 0.12 }) +
  disc(x, y, r * 0.46, fill, { opacity: 0.14 });

/** Return three wisps of steam above a point. */
export const steam = (x, y, size = 1, stroke = "#fff") =>
  at(x, y, row(3, (k) =>
    moving(`rise d${k}`, line(`M${k * 34 - 34} 0q-16 -22 0 -44t0 -44`, stroke, 9, { opacity: 0.75 })),
  ), 0, size);

/** Return a four-pointed sparkle. */
export const sparkle = (x, y, r, fill = "#fff", delay = 0) =>
  at(x, y, moving(`twinkle d${delay}`,
    shape(`M0 ${-r}Q${r * 0.14} ${-r * 0.14} ${r} 0Q${r * 0.14} ${r * 0.14} 0 ${r}Q${-r * 0.14} ` +
      `${r * 0.14} ${-r} 0Q${-r * 0.14} ${-r * 0.14} 0 ${-r}z`, fill)));

/** Return a heart whose point is at the place. */
export const heart = (x, y, size, fill) =>
  at(x, y, shape("M0 0C-46 -34 -34 -72 -14 -68Q-3 -66 0 -54Q3 -66 14 -68C34 -72 46 -34 0 0z", fill), 0, size);

/** Return a leaf that grows from the place, turned by degrees. */
export const leaf = (x, y, turn, size, fill) =>
  at(x, y, shape("M0 0C-24 -22 -22 -58 0 -80C22 -58 24 -22 0 0z", fill) +
    line("M0 -4V-64", "#00000026", 3), turn, size);

const SKINS = ["#f2c9a4", "#d9a06f", "#a86b42", "#7b4a2d"];
const HAIRS = ["#2b1d16", "#5b3420", "#1c1c28", "#a4552a", "#d9a441"];

/** Return the colours of somebody. */
export const someone = (random) => ({ skin: pick(random, SKINS), hair: pick(random, HAIRS) });

/**
 * Return a figure of height 260 whose hips are at the place.
 * @param who `someone`, with `top` and `legs` as colours.
 * @param pose points `[elbow, hand, elbow, hand, knee, foot, knee, foot]` from the hips, each [x, y].
 */
export function figure(x, y, who, pose, size = 1) {
  const [le, lh, re, rh, lk, lf, rk, rf] = pose;
  const limb = (from, joint, to, colour, width) =>
    line(`M${from}L${joint}L${to}`, colour, width);
  const leg = (knee, foot, from) =>
    limb(from, knee, foot, who.legs, 27) +
    line(`M${foot}l${foot[0] < 0 ? -14 : 14} 2`, who.shoes ?? "#fff", 19);
  const arm = (elbow, hand, from) =>
    limb(from, elbow, hand, who.skin, 19) + line(`M${from}L${mid(from, elbow)}`, who.top, 25);
  const head =
    disc(0, -142, 29, who.hair) + disc(0, -136, 26, who.skin) +
    shape("M-28 -138Q-24 -172 4 -170Q30 -166 28 -138Q12 -158 -28 -138z", who.hair) +
    disc(-9, -134, 3, "#222") + disc(9, -134, 3, "#222") +
    line("M-8 -123q8 7 16 0", "#222", 3);
  return at(x, y,
    leg(lk, lf, [-14, 0]) + leg(rk, rf, [14, 0]) +
    shape("M-34 -96Q0 -112 34 -96L25 10H-25z", who.top) + box(-9, -116, 18, 20, who.skin, 8) +
    arm(le, lh, [-31, -90]) + arm(re, rh, [31, -90]) + moving("nod", head), 0, size);
}

function mid([ax, ay], [bx, by]) {
  return [(ax + bx) / 2, (ay + by) / 2];
}
