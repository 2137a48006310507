// Posters of what people make, keep and visit. Each scene is drawn on 360 by 780 with its subject
// around (180, 300): below y = 520 stands the card's text.

import {
  at, box, disc, halo, heart, leaf, line, moving, oval, pick, room, row, shape,
  someone, sparkle, steam,
} from "./shapes.js";

export function cooking(random) {
  const [wall, tile, counter] = pick(random, [
    ["#f6d9a8", "#fbe8c8", "#b5652f"], ["#a8d8cf", "#c4e8e1", "#7a5a46"], ["#f3b6a1", "#f9d3c5", "#6d4a3d"],
  ]);
  const tiles = row(7, (r) => row(6, (c) => box(c * 64 - 12 + (r % 2) * 32, 20 + r * 62, 58, 56, tile, 6)));
  const utensils = line("M20 96H340", "#5b4636", 7) +
    at(66, 96, moving("sway", line("M0 0V70", "#5b4636", 8) + oval(0, 92, 22, 27, "#5b4636"))) +
    at(118, 96, moving("sway d1", line("M0 0V60", "#8d6b50", 8) + box(-19, 60, 38, 58, "#8d6b50", 8) +
      row(3, (k) => box(-11 + k * 9, 70, 4, 36, wall)))) +
    at(296, 96, moving("sway d2", line("M0 0V56", "#5b4636", 8) + disc(0, 90, 34, "#3c4350") + disc(0, 90, 25, "#4d5665")));
  const stove = box(0, 470, 360, 310, counter) + box(0, 470, 360, 12, "#ffffff40") +
    box(62, 452, 236, 18, "#2f3138", 5) +
    row(9, (k) => at(96 + k * 21, 453, moving(`flick d${k % 3}`, shape("M-9 0Q-8 -18 0 -28Q8 -18 9 0z", k % 2 ? "#ff9d2e" : "#3f8dff"))));
  return box(0, 0, 360, 780, wall) + tiles + utensils + stove + (random() < 0.5 ? pan(random) : pot(random));
}

function pan(random) {
  const food = pick(random, [["#e4572e", "#6ab04c", "#f6c945"], ["#f08a24", "#58a55c", "#efe3c2"]]);
  const pieces = row(9, (k) => at(105 + ((k * 53) % 150), 300 + ((k * 37) % 60), moving(`toss d${k % 3}`,
    k % 3 ? box(-13, -9, 26, 18, food[k % 3], 7) : disc(0, 0, 13, food[0]) + disc(0, 0, 6, "#ffffff70")), k * 40));
  const egg = at(176, 392, moving("toss d1", shape("M-44 0Q-48 -20 -20 -19Q4 -32 24 -18Q54 -14 46 4Q20 18 -12 13Q-40 14 -44 0z", "#fff") + oval(0, -6, 17, 11, "#ffb52e")));
  return steam(170, 268, 1.15) + pieces + egg +
    line("M282 412L356 388", "#1f2127", 20) +
    shape("M62 396H290Q284 454 232 454H120Q68 454 62 396z", "#33363f") + oval(176, 397, 115, 15, "#4c505c") +
    oval(176, 399, 98, 10, "#6d4a24") + row(6, (k) => disc(104 + k * 29, 396 + (k % 2) * 4, 10, food[k % 3]));
}

function pot(random) {
  const colour = pick(random, ["#d64541", "#2f7f8f", "#e0a526"]);
  return steam(180, 262, 1.3) +
    at(180, 306, moving("lid", shape("M-106 0Q-96 -40 0 -42Q96 -40 106 0z", colour) + disc(0, -50, 14, "#2f3138") +
      shape("M-90 -6Q-70 -32 -10 -34Q-60 -22 -74 -6z", "#ffffff50"))) +
    oval(180, 318, 96, 16, "#f2a65a") + row(7, (k) => at(108 + k * 24, 316, moving(`boil d${k % 3}`, disc(0, 0, 10 + (k % 3) * 3, k % 2 ? "#ffd9a0" : "#7cb342")))) +
    shape("M74 318H286V430Q286 454 258 454H102Q74 454 74 430z", colour) +
    box(40, 344, 42, 20, "#2f3138", 10) + box(278, 344, 42, 20, "#2f3138", 10) +
    shape("M96 336H118V430Q104 430 96 416z", "#ffffff45") +
    at(250, 330, moving("sway o-bottom", line("M0 0L36 -130", "#b9814f", 13)));
}

export function streetfood(random) {
  const [awning, stall] = pick(random, [["#e63946", "#a4472f"], ["#f4a300", "#3f6b5c"], ["#2a9d8f", "#8a4b2f"]]);
  const night = pick(random, ["#1d2147", "#2a1a3e", "#12323f"]);
  const stripes = row(8, (k) => shape(`M${20 + k * 40} 170H${60 + k * 40}L${64 + k * 40} 224a22 20 0 0 1 -44 0z`, k % 2 ? "#fff5e4" : awning));
  const lanterns = line("M0 66Q180 130 360 56", "#00000080", 3) + row(5, (k) => at(36 + k * 72, 96 - Math.abs(k - 2) * 9, moving(`sway d${k % 3}`,
    halo(0, 22, 46, "#ffb347") + oval(0, 22, 22, 25, "#ff6b35") + oval(0, 22, 10, 25, "#ffa05a") + box(-9, -6, 18, 6, "#3a2218") + box(-9, 44, 18, 6, "#3a2218"))));
  const skewer = (k) => at(104 + k * 40, 356, moving(`turn d${k % 3}`, line("M0 46V-84", "#e2c08a", 5) +
    row(4, (j) => box(-14, -74 + j * 26, 28, 23, ["#b5502b", "#7cb342", "#e28743", "#9c3d22"][(k + j) % 4], 9))));
  const grill = box(74, 398, 214, 20, "#25262c", 6) + row(9, (k) => at(88 + k * 23, 400, moving(`flick d${k % 3}`, shape("M-8 0Q-6 -14 0 -22Q6 -14 8 0z", "#ff7a1a"))));
  return box(0, 0, 360, 780, night) + row(14, (k) => box((k * 79) % 350, 20 + ((k * 47) % 130), 3, 3, "#ffffff90", 1)) +
    lanterns + box(46, 200, 268, 220, "#ffd48a") + halo(180, 300, 190, "#fff0c0") + box(34, 180, 14, 300, "#5d3822") + box(312, 180, 14, 300, "#5d3822") +
    steam(180, 262, 1.25, "#ffffff") + row(5, skewer) + grill + stripes +
    box(14, 418, 332, 150, stall, 8) + box(14, 418, 332, 16, "#ffffff40", 6) +
    bowl(180, 520, pick(random, ["#fff", "#f6e7cf"])) +
    disc(62, 590, 40, "#241a18") + disc(62, 590, 15, "#8f8a85") + disc(298, 590, 40, "#241a18") + disc(298, 590, 15, "#8f8a85");
}

function bowl(x, y, colour) {
  return at(x, y, shape("M-66 -34H66Q60 34 20 36H-20Q-60 34 -66 -34z", colour) + oval(0, -34, 66, 14, "#e09f4f") +
    row(5, (k) => line(`M${k * 22 - 48} -36q11 -16 22 0`, "#fbe3a6", 6)) + line("M14 -40L74 -98M2 -40L52 -106", "#7a2e1d", 6) +
    line("M-54 -8Q0 8 54 -8", "#d64541", 6));
}

const DOGS = /dog|pupp|anjing|chó|aso\b|tuta|หมา/i;
const CATS = /\bcats?\b|kitten|kucing|mèo|pusa|kuting|แมว/i;

export function pets(random, title) {
  const [wall, floor, rug] = pick(random, [["#bfe0ee", "#d9a772", "#f28f79"], ["#f7d8c4", "#b98a66", "#6fb1a0"], ["#d9d2f2", "#c39a74", "#f2b84b"]]);
  const window_ = box(222, 96, 112, 136, "#fff", 8) + box(232, 106, 92, 116, "#8fd0f5", 4) + disc(302, 132, 17, "#fff3b0") + box(275, 106, 6, 116, "#fff") + box(232, 160, 92, 6, "#fff");
  const isEither = DOGS.test(title) === CATS.test(title);
  const isCat = isEither ? random() < 0.55 : CATS.test(title);
  return room(wall, floor, 432) + window_ + oval(178, 508, 164, 34, rug) + oval(178, 508, 124, 23, "#ffffff38") +
    (isCat ? cat(random) : dog(random));
}

function cat(random) {
  const [fur, light, stripe] = pick(random, [["#f29a3f", "#fde1bd", "#c96f1d"], ["#4c4c58", "#8a8a98", "#33333d"], ["#e9e2d8", "#fff", "#b7aa9a"], ["#8d8f9c", "#e6e7ec", "#6b6d79"]]);
  const tail = at(250, 486, moving("sway o-bottom", line("M-6 4Q62 -4 58 -70Q54 -104 78 -118", fur, 27) + line("M62 -104Q64 -114 76 -120", light, 24)));
  const ear = (turn) => at(180 + turn * 60, 222, shape("M-34 26L0 -64L34 26z", fur) + shape("M-17 20L0 -34L17 20z", "#f5a9a0"), turn * 16);
  const eye = (x) => moving("blink", oval(x, 268, 17, 21, "#e9f7a0") + oval(x, 268, 7, 19, "#1b1b20") + disc(x + 4, 260, 4, "#fff"));
  const whisker = (side) => row(3, (k) => line(`M${180 + side * 36} ${304 + k * 7}l${side * 66} ${k * 13 - 16}`, "#ffffffd0", 3));
  return tail + shape("M92 512Q84 352 180 340Q276 352 268 512z", fur) + shape("M136 512Q132 392 180 384Q228 392 224 512z", light) +
    oval(138, 510, 34, 17, light) + oval(222, 510, 34, 17, light) +
    moving("nod", ear(-1) + ear(1) + oval(180, 276, 104, 84, fur) + oval(180, 312, 52, 38, light) +
      row(3, (k) => line(`M${160 + k * 20} 200v${k === 1 ? 36 : 26}`, stripe, 9)) +
      line("M84 276h26M86 298h24M276 276h-26M274 298h-24", stripe, 8) + eye(138) + eye(222) +
      shape("M168 294H192L180 308z", "#e8727c") + line("M180 308v10q-13 14 -26 2M180 318q13 14 26 2", "#5a3b33", 4) + whisker(-1) + whisker(1)) +
    at(66, 500, moving("bob", disc(0, 0, 34, "#e0526d") + line("M-26 -14Q0 -30 28 -12M-32 4Q0 -14 33 6M-22 24Q4 4 30 20", "#f59aab", 5))) ;
}

function dog(random) {
  const [fur, ear, light] = pick(random, [["#c98a4b", "#8a5a2b", "#f4dfc0"], ["#f1e2c6", "#b9854c", "#fff"], ["#6b4a35", "#43291a", "#c9a483"], ["#3b3b42", "#232328", "#d8a15f"]]);
  const tail = at(262, 440, moving("wag o-bottom", line("M0 0Q42 -26 50 -74", fur, 26)));
  const lop = (side) => at(180 + side * 84, 206, moving(`nod d${side > 0 ? 1 : 0}`, shape(`M${-side * 28} -10Q${side * 46} -22 ${side * 38} 92Q${side * 6} 124 ${-side * 16} 60z`, ear)));
  const eye = (x) => moving("blink", disc(x, 252, 13, "#1b1b20") + disc(x + 4, 247, 4, "#fff"));
  return tail + shape("M96 512Q88 352 180 344Q272 352 264 512z", fur) + shape("M140 512Q138 404 180 396Q222 404 220 512z", light) +
    oval(134, 508, 36, 18, light) + oval(226, 508, 36, 18, light) + line("M118 372Q180 408 242 372", "#e63946", 17) + disc(180, 400, 14, "#ffc93c") +
    moving("nod", oval(180, 258, 92, 88, fur) + oval(180, 302, 58, 48, light) + lop(-1) + lop(1) + eye(146) + eye(214) +
      oval(180, 278, 23, 16, "#1b1b20") + oval(173, 272, 7, 4, "#ffffff90") + line("M180 294v16q-16 14 -32 2M180 310q16 14 32 2", "#4a2d20", 5) +
      moving("pant", shape("M164 318H196V346Q180 368 164 346z", "#f2788f") + line("M180 322v24", "#d1566f", 4))) +
    at(62, 506, line("M-26 8L26 -8", "#fff", 17) + disc(-30, 0, 12, "#fff") + disc(-24, 18, 12, "#fff") + disc(30, 0, 12, "#fff") + disc(24, -18, 12, "#fff"));
}

export function travel(random) {
  const [sky, glow, sea] = pick(random, [["#4fb3e8", "#ffe9a8", "#1f7fb8"], ["#f58f6c", "#ffd36b", "#5a4fa0"], ["#7ad0d6", "#fff2c2", "#168a8f"]]);
  const sun = halo(262, 196, 130, glow) + disc(262, 196, 46, glow);
  const cloud = (x, y, s, d) => at(x, y, moving(`drift d${d}`, oval(0, 0, 46, 18, "#ffffffd8") + disc(-14, -12, 22, "#ffffffd8") + disc(16, -16, 27, "#ffffffd8")), 0, s);
  const plane = at(142, 178, moving("fly", line("M-136 58q60 -6 104 -40", "#ffffffb0", 5, { "stroke-dasharray": "3 13" }) +
    at(0, 0, shape("M-70 0Q-60 -17 20 -17Q64 -15 78 0Q64 13 20 13H-56z", "#fff") + shape("M-70 0L-90 -40H-68L-42 -14z", "#e63946") +
      shape("M16 2L-34 64H-8L44 4z", "#dfe6ee") + shape("M14 -14L-14 -46H4L38 -16z", "#cfd8e3") + row(6, (k) => disc(-30 + k * 14, -5, 4, "#4a90c2")) + shape("M58 -9Q72 -7 76 -1H56z", "#4a90c2"), -14)));
  return box(0, 0, 360, 780, sky) + sun + cloud(60, 110, 1, 0) + cloud(316, 300, 0.8, 1) + plane +
    (random() < 0.5 ? island(sea) : mountains(sea)) + suitcase(random);
}

function island(sea) {
  const palm = at(92, 420, moving("sway o-bottom", line("M0 30Q12 -60 44 -118", "#8a5a33", 17) +
    row(6, (k) => at(44, -120, shape("M0 0Q40 -42 96 -8Q44 -20 0 0z", k % 2 ? "#2e9e5b" : "#3dba6f"), [-150, -105, -60, -20, 20, 165][k])) + disc(40, -108, 9, "#6b3f1d") + disc(54, -106, 9, "#6b3f1d")));
  return box(0, 396, 360, 384, sea) + row(5, (k) => at(30 + k * 82, 420 + (k % 2) * 20, moving(`drift d${k % 3}`, line("M-22 0q11 -9 22 0t22 0", "#ffffff80", 4)))) +
    shape("M-20 470Q60 420 190 462Q290 486 400 480V780H-20z", "#f4dba3") + palm;
}

function mountains(sea) {
  return shape("M-20 480L90 262L164 392L238 300L390 480z", "#5c6b8c") + shape("M90 262L60 322L84 312L100 330L122 318z", "#fff") + shape("M238 300L210 338L232 332L250 342L268 332z", "#fff") +
    shape("M-20 500Q90 428 190 466T400 450V780H-20z", "#3f8f63") + box(0, 560, 360, 220, sea) + row(6, (k) => at(24 + k * 62, 474 - (k % 2) * 12, shape("M-15 0L0 -46L15 0z", "#2b6e4c")));
}

function suitcase(random) {
  const colour = pick(random, ["#e4572e", "#f4b63f", "#3d5a98"]);
  return at(236, 478, line("M-22 -66V-98H22V-66", "#3a3f4b", 8) + box(-62, -68, 124, 138, colour, 16) +
    row(3, (k) => box(-38 + k * 33, -58, 8, 118, "#00000022", 4)) + disc(-40, 76, 10, "#2b2e36") + disc(40, 76, 10, "#2b2e36") +
    disc(24, -24, 20, "#fff") + heart(24, -12, 0.36, "#e63946") + at(-22, 32, box(-20, -12, 40, 24, "#fff", 4) + line("M-12 0H12", "#3d5a98", 5), -12));
}

export function beauty(random) {
  const who = someone(random);
  const [wall, frame, table] = pick(random, [["#f9c5d1", "#fff1f4", "#c9748b"], ["#e3cdf2", "#fffaf2", "#8a6aa8"], ["#f7d9bd", "#fff6ec", "#b9745a"]]);
  const bulbs = row(11, (k) => { const a = Math.PI * (0.86 + k * 0.128); return disc(180 + 152 * Math.cos(a), 282 + 178 * Math.sin(a), 11, "#fff4c2", { class: `twinkle d${k % 3}` }); });
  const eye = (x, s) => oval(x, 272, 17, 11, "#fff") + disc(x, 272, 9, "#4a3324") + disc(x + 3, 269, 3, "#fff") + line(`M${x - 20} 272Q${x} 250 ${x + 20} 268l${s * 8} -10`, "#1b1420", 6) +
    oval(x, 256, 21, 9, "#b86bd6", { opacity: 0.65 }) + line(`M${x - 20} 240Q${x} 226 ${x + 22} 238`, who.hair, 7);
  const lips = at(180, 340, moving("pulse", shape("M-30 0Q-14 -17 0 -8Q14 -17 30 0Q14 21 0 21Q-14 21 -30 0z", "#d81e4f") + line("M-28 0Q0 8 28 0", "#9c1238", 3)));
  const face = shape("M92 420Q70 190 180 178Q290 190 268 420z", who.hair) + box(158, 360, 44, 70, who.skin, 16) +
    oval(180, 286, 72, 92, who.skin) + shape("M106 280Q104 196 180 194Q256 196 254 280Q236 222 186 220Q128 226 106 280z", who.hair) +
    oval(128, 318, 17, 11, "#ff7d96", { opacity: 0.5 }) + oval(232, 318, 17, 11, "#ff7d96", { opacity: 0.5 }) + eye(150, -1) + eye(210, 1) + line("M182 284q10 24 -6 28", "#00000030", 4) + lips +
    shape("M96 460Q180 392 264 460z", "#fff");
  const lipstick = at(56, 486, box(-19, -30, 38, 72, "#232028", 6) + box(-15, -62, 30, 36, "#e8c56a", 3) + shape("M-12 -62V-92L12 -110V-62z", "#d81e4f"), -6);
  const brush = at(312, 486, moving("sway o-bottom", box(-6, -40, 12, 90, "#5a3f6e", 6) + box(-11, -62, 22, 26, "#e8c56a", 4) + shape("M-17 -62Q-24 -108 0 -120Q24 -108 17 -62z", "#f5a7b8")), 8);
  return box(0, 0, 360, 780, wall) + oval(180, 290, 168, 194, frame) + oval(180, 290, 130, 158, "#d8ecf3") + oval(180, 290, 130, 158, "#ffffff30") + bulbs + face +
    box(0, 506, 360, 274, table) + box(0, 506, 360, 10, "#ffffff50") + lipstick + brush +
    at(128, 498, box(-26, -26, 52, 46, "#7cc6c3", 10) + box(-17, -58, 34, 34, "#232028", 6)) + at(236, 506, oval(0, 0, 44, 15, "#5a3f6e") + oval(0, -4, 36, 11, "#f39aae")) +
    sparkle(74, 190, 22, "#fff", 0) + sparkle(292, 168, 17, "#fff", 1) + sparkle(296, 392, 20, "#fff", 2);
}

export function fashion(random) {
  const [wall, floor, one, two, three] = pick(random, [["#f1e3d3", "#c9a98a", "#d64161", "#3b6fb5", "#f0a830"], ["#dfe7e4", "#9fb3aa", "#7a3e8f", "#e07a3f", "#2f8f83"], ["#f4d6d8", "#b98c92", "#23395b", "#d9b44a", "#c8385a"]]);
  const hanger = line("M0 -42q14 -12 4 -22t-18 6M0 -42L-36 -22M0 -42L36 -22", "#3d3a38", 5);
  const dress = hanger + shape("M-20 -26L-9 -12Q0 -6 9 -12L20 -26L30 -16L20 36Q46 108 64 200H-64Q-46 108 -20 36L-30 -16z", one) + line("M-20 38H20", "#ffffffc0", 9) +
    row(7, (k) => disc(-40 + ((k * 31) % 84), 78 + ((k * 43) % 104), 6, "#ffffff90"));
  const jacket = hanger + shape("M-32 -22L0 8L32 -22L66 8V126H40V150H-40V126H-66V8z", two) + shape("M-14 -18L0 20L14 -18z", "#fff") + line("M0 20V148M-40 20V126M40 20V126", "#00000030", 4) + row(3, (k) => disc(9, 48 + k * 30, 5, "#f6e3a1"));
  const shirt = hanger + shape("M-26 -24Q0 -4 26 -24L64 14L42 44L32 30V130H-32V30L-42 44L-64 14z", three) + row(3, (k) => box(-32, 46 + k * 28, 64, 12, "#ffffff80"));
  const shoe = (flip) => at(flip ? 292 : 232, 512, shape("M-34 0Q-30 -38 -8 -40Q6 -14 40 -8V6H-8L-22 4L-28 22H-36z", one), 0, 0.95);
  const bag = at(84, 510, line("M-26 -32Q0 -84 26 -32", "#3d2a22", 8) + shape("M-44 -34H44L52 30H-52z", two) + box(-13, -38, 26, 22, "#f3cf6b", 5));
  return room(wall, floor, 488) + oval(180, 60, 120, 12, "#ffffff60") + line("M30 140H330M44 140V520M316 140V520", "#3d3a38", 9) +
    at(92, 206, moving("sway", jacket), 0, 0.92) + at(274, 206, moving("sway d2", shirt), 0, 0.88) + at(182, 210, moving("sway d1", dress), 0, 1.2) + bag + shoe(false) + shoe(true) +
    sparkle(148, 90, 17, "#fff", 1) + sparkle(300, 92, 13, "#fff", 2);
}

export function gardening(random) {
  const [sky, hill, pot_] = pick(random, [["#bfe8f7", "#7cc36a", "#c8653b"], ["#fdeec2", "#93c572", "#3f7d8f"], ["#d7f0d2", "#5fae63", "#b5503a"]]);
  const bloom = pick(random, ["#ff5d8f", "#ffb400", "#b05cff", "#ff6f47"]);
  const flower = (x, y, s, d) => at(x, y, moving(`sway o-bottom d${d}`, line("M0 0V-112", "#3a8f46", 9) + leaf(0, -24, 52, 0.62, "#4caf50") + leaf(0, -50, -52, 0.62, "#43a047") +
    row(7, (k) => at(0, -124, oval(0, -27, 15, 24, bloom), k * 51.4)) + disc(0, -124, 18, "#ffd54f")), 0, s);
  const can = at(266, 232, moving("pour", at(0, 0, shape("M-44 -34H44L36 48H-36z", "#4f8fc0") + line("M-42 24L-92 -18", "#4f8fc0", 15) + shape("M-104 -34L-82 -6L-98 4L-116 -20z", "#3c76a3") + line("M40 -22Q86 -14 40 32", "#3c76a3", 11) + oval(0, -34, 44, 10, "#3c76a3") + line("M-30 -40Q0 -82 30 -40", "#3c76a3", 9), -22) +
    row(6, (k) => moving(`drip d${k % 3}`, shape("M0 0Q-9 16 0 20Q9 16 0 0z", "#4aa8e8", { transform: `translate(${-122 + (k % 3) * 17} ${8 + k * 15})` })))));
  const soil = row(3, (k) => box(-30 + k * 150, 560, 120, 12, "#5b3a22", 6));
  return box(0, 0, 360, 780, sky) + halo(68, 110, 92, "#ffe27a") + disc(68, 110, 38, "#ffd23f") + shape("M-20 400Q90 330 200 384T400 360V780H-20z", hill) +
    row(9, (k) => box(8 + k * 42, 384, 26, 96, "#fff", 8)) + box(0, 410, 360, 14, "#fff") + box(0, 450, 360, 14, "#fff") + box(0, 480, 360, 300, "#7a4b2a") + soil +
    flower(96, 412, 0.92, 1) + flower(196, 412, 0.92, 2) + flower(146, 408, 1.25, 0) +
    shape("M66 404H228L208 520H86z", pot_) + box(56, 390, 182, 32, pot_, 7) + box(56, 414, 182, 8, "#00000025") + shape("M84 426H104L110 512H96z", "#ffffff35") + can +
    at(296, 512, moving("sway o-bottom d1", leaf(0, 0, -34, 0.8, "#4caf50") + leaf(0, 0, 34, 0.8, "#43a047") + leaf(0, 0, 0, 1, "#66bb6a"))) + oval(296, 514, 38, 9, "#4a2c18");
}

export function crafts(random) {
  const [table, mat, wool] = pick(random, [["#d9b48a", "#3f8f7f", "#e4577a"], ["#c99d74", "#4a6fa5", "#f2a541"], ["#e6cfae", "#7a5c99", "#3fa796"]]);
  const grid = row(7, (k) => line(`M36 ${150 + k * 50}H324M${48 + k * 44} 110V480`, "#ffffff38", 2));
  const yarn = at(122, 366, moving("roll", disc(0, 0, 74, wool) + line("M-62 -30Q0 -74 60 -36M-72 0Q0 -50 72 -4M-66 30Q0 -14 70 26M-40 60Q10 22 54 50", "#ffffff70", 6) + line("M-30 -66Q-62 0 -20 70M14 -72Q-16 0 24 70M48 -54Q24 4 56 44", "#00000022", 6))) +
    line("M182 410Q240 470 300 440T330 520", wool, 8) + line("M66 452L176 258M190 444L78 266", "#c79a5b", 10) + disc(176, 258, 10, "#6b4a2b") + disc(78, 266, 10, "#6b4a2b");
  const scissors = at(262, 242, moving("snip-a", line("M0 0L-12 -108", "#cfd6de", 15) + line("M0 0L24 62", "#e4572e", 13) + oval(32, 84, 22, 28, "none", { stroke: "#e4572e", "stroke-width": 13 })) +
    moving("snip-b", line("M0 0L12 -108", "#e3e8ee", 15) + line("M0 0L-24 62", "#e4572e", 13) + oval(-32, 84, 22, 28, "none", { stroke: "#e4572e", "stroke-width": 13 })) + disc(0, 0, 8, "#555"), 14);
  const crane = at(96, 186, moving("bob", shape("M0 20L-64 -46L-12 -18z", "#fff") + shape("M0 20L50 -66L14 -14z", "#f3f0e8") + shape("M-12 -18L14 -14L0 50z", "#e2dccd") + shape("M0 42L-52 22L-70 40L-44 34z", "#d9d2c0") + shape("M0 42L58 12L46 36z", "#fff")));
  const pencils = row(4, (k) => at(262 + k * 22, 460, box(-8, -70, 16, 90, ["#f4c430", "#e4572e", "#3d7dca", "#3fa75a"][k], 3) + shape("M-8 -70L0 -94L8 -70z", "#f3dcb6") + shape("M-3 -85L0 -94L3 -85z", "#333"), k * 7 - 14));
  const buttons = row(4, (k) => at(60 + k * 46, 500 + (k % 2) * 16, disc(0, 0, 15, ["#e4572e", "#3d7dca", "#f4c430", "#8e5bb5"][k]) + disc(-4, 0, 3, "#fff") + disc(4, 0, 3, "#fff")));
  return box(0, 0, 360, 780, table) + row(8, (k) => box(0, k * 100, 360, 3, "#00000014")) + box(28, 100, 304, 390, mat, 16) + grid + (random() < 0.5 ? "" : sparkle(196, 140, 15, "#fff", 1)) + crane + scissors + yarn + pencils + buttons;
}

