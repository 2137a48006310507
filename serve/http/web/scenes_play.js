// Posters of what people play, perform and find out. Each scene is drawn on 360 by 780 with its
// subject around (180, 300): below y = 520 stands the card's text.

import {
  at, box, disc, figure, halo, line, moving, oval, pick, room, row, shape, someone, sparkle,
} from "./shapes.js";

const DANCES = [
  [[-64, -128], [-86, -196], [70, -92], [104, -160], [-46, 60], [-78, 118], [52, 50], [40, 122]],
  [[-74, -104], [-126, -118], [66, -128], [92, -196], [-30, 66], [-34, 124], [66, 34], [112, 82]],
  [[-60, -56], [-18, -40], [68, -126], [58, -200], [-52, 48], [-38, 120], [30, 64], [50, 124]],
];

export function dance(random) {
  const [back, floor, light] = pick(random, [["#2b1055", "#5b2a9d", "#ff4fa3"], ["#0f2a4a", "#1d5f8a", "#33e0d0"], ["#3d0c2f", "#8c1c54", "#ffb43f"]]);
  const beams = row(3, (k) => at(180, 30, moving(`sweep d${k}`, shape("M0 0L-66 470H66z", ["#fff", light, "#8fd3ff"][k], { opacity: 0.15 })), k * 34 - 34));
  const tiles = row(3, (r) => row(6, (c) => box(c * 62 - 6, 438 + r * 62, 56, 56, (r + c) % 2 ? light : "#ffd34e", 5, { class: `twinkle d${(r + c) % 3}`, opacity: 0.85 })));
  const ball = line("M180 0V54", "#cfd3e0", 4) + moving("pulse", disc(180, 96, 44, "#c9d2ee") +
    row(5, (r) => row(5, (c) => { const w = 34 * Math.sqrt(1 - ((r - 2) / 2.6) ** 2); return box(180 - w + c * (w / 2.4), 62 + r * 15, w / 2.9, 11, ["#fff", "#8ea2dd", "#e6b3ff", "#9fe8ff"][(r * 2 + c) % 4], 2); })));
  const one = { ...someone(random), top: light, legs: "#20203a" };
  const two = { ...someone(random), top: "#ffd34e", legs: "#33479e", shoes: "#ff5b6e" };
  const pose = pick(random, DANCES);
  return room(back, floor, 428) + beams + tiles + ball + halo(180, 330, 170, light) +
    moving("groove", figure(116, 366, one, pose, 0.92)) +
    moving("groove d2", figure(256, 376, two, pick(random, DANCES), 0.84)) + sparkle(60, 150, 14, "#fff", 0) + sparkle(310, 130, 18, "#fff", 1) + sparkle(278, 216, 11, "#fff", 2);
}

function ballOf(size) {
  const spot = "M0 -15L14 -5L9 12H-9L-14 -5z";
  return at(0, 0, disc(0, 0, 50, "#fff") + shape(spot, "#1d1f27") +
    row(5, (k) => at(0, 0, line("M0 -15V-33", "#1d1f27", 4) + shape("M-15 -42Q0 -52 15 -42L9 -30H-9z", "#1d1f27") + line("M9 -30L24 -22", "#1d1f27", 4), k * 72)) +
    disc(0, 0, 50, "none", { stroke: "#00000030", "stroke-width": 4 }), 0, size);
}

export function football(random) {
  const [sky, far] = pick(random, [["#7cc6f2", "#cdeafd"], ["#1c2b55", "#31477d"], ["#f5a35c", "#ffd9a0"]]);
  const crowd = box(0, 120, 360, 96, far) + row(3, (r) => row(19, (c) => disc(8 + c * 20 - (r % 2) * 8, 142 + r * 26, 9, ["#e63946", "#fff", "#2f5fb3", "#ffd23f", "#444b63"][(c * 3 + r * 2) % 5], { class: `hop d${(c + r) % 3}` })));
  const lamps = [40, 320].map((x) => line(`M${x} 128V48`, "#d9dee8", 6) + halo(x, 40, 50, "#fffbe0") + row(3, (k) => disc(x - 16 + k * 16, 40, 8, "#fffbe0"))).join("");
  const pitch = row(7, (k) => box(0, 214 + k * 62, 360, 62, k % 2 ? "#3fa34d" : "#48b158")) + line("M-10 470H370", "#ffffffd0", 5) + oval(180, 480, 120, 34, "none", { stroke: "#ffffffd0", "stroke-width": 5 });
  const goal = box(46, 176, 268, 168, "#00000018") + row(13, (k) => line(`M${58 + k * 20.4} 180V338`, "#ffffffa0", 2)) + row(8, (k) => line(`M52 ${194 + k * 20}H308`, "#ffffffa0", 2)) + line("M46 346V176H314V346", "#fff", 10);
  const keeper = { ...someone(random), top: pick(random, ["#ffd23f", "#ff7043", "#b9f227"]), legs: "#222", shoes: "#fff" };
  const kicker = { ...someone(random), top: pick(random, ["#e63946", "#2f5fb3", "#ffffff"]), legs: "#1d2b57", shoes: "#ffea3d" };
  const shot = moving("shoot", at(196, 414, moving("spin", ballOf(0.86))));
  return box(0, 0, 360, 780, sky) + lamps + crowd + pitch + goal +
    moving("bob d1", figure(222, 290, keeper, [[-66, -128], [-104, -166], [62, -128], [88, -180], [-34, 40], [-66, 62], [32, 30], [28, 66]], 0.5)) +
    figure(84, 420, kicker, [[-62, -70], [-84, -20], [54, -60], [86, -92], [-30, 52], [-40, 120], [52, 34], [98, 44]], 0.86) + shot;
}

export function comedy(random) {
  const [curtain, fold] = pick(random, [["#b3202f", "#8a1522"], ["#5c2a91", "#431b6e"], ["#12706b", "#0b524f"]]);
  const folds = row(8, (k) => shape(`M${k * 48 - 6} 0H${k * 48 + 22}L${k * 48 + 16} 480H${k * 48 - 2}z`, fold));
  const valance = row(6, (k) => shape(`M${k * 64 - 12} 0h64v62a32 26 0 0 1 -64 0z`, k % 2 ? curtain : fold)) + row(6, (k) => line(`M${k * 64 - 12} 62a32 26 0 0 0 64 0`, "#f5c542", 5));
  const eye = (x) => line(`M${x - 22} 10q22 -34 44 0`, "#3a2410", 9);
  const tear = (x, side) => moving(`drip d${side}`, shape(`M${x} 18q-20 30 0 36q20 -6 0 -36z`, "#4fb6f0"));
  const face = at(180, 262, moving("laugh", disc(0, 0, 108, "#ffd23f") + disc(0, 0, 108, "none", { stroke: "#eaa80c", "stroke-width": 6 }) + eye(-42) + eye(42) +
    shape("M-66 26H66Q60 92 0 92Q-60 92 -66 26z", "#5b1a1a") + shape("M-60 28H60L56 46H-56z", "#fff") + oval(0, 78, 36, 17, "#f2617a") + tear(-96, 0) + tear(96, 2)));
  const ha = (x, y, turn, size, d) => at(x, y, moving(`bob d${d}`, line("M0 0V-44M26 0V-44M0 -22H26M40 0L56 -44L72 0M46 -15H66", "#fff", 9)), turn, size);
  const mic = line("M284 520V392", "#c9ced8", 9) + oval(284, 524, 44, 10, "#23242c") + at(284, 384, moving("nod", line("M0 0L-22 -40", "#2c2e38", 19) + disc(-30, -56, 25, "#8c93a3") + line("M-48 -64Q-30 -50 -14 -66M-50 -50Q-30 -36 -10 -52", "#6a7080", 4)));
  return box(0, 0, 360, 780, curtain) + folds + shape("M180 -40L-30 480H390z", "#fff6cf", { opacity: 0.2 }) + box(0, 470, 360, 310, "#7a4a2b") + row(6, (k) => box(0, 470 + k * 52, 360, 3, "#00000028")) + oval(180, 500, 160, 28, "#ffe9a8", { opacity: 0.5 }) +
    valance + face + mic + ha(44, 170, -16, 0.9, 0) + ha(258, 136, 14, 0.8, 1) + ha(38, 424, -8, 0.72, 2);
}

export function gaming(random) {
  const [back, neon, pad] = pick(random, [["#150f33", "#ff3df2", "#f2f3f8"], ["#08222e", "#2df5c5", "#3a3f55"], ["#2a0f24", "#ffb02d", "#5b46d6"]]);
  const invader = (x, y, s, fill, d) => at(x, y, moving(`step d${d}`, ["0010001000", "0001010000", "0011111000", "0110101100", "1111111110", "1011111010", "1010001010", "0001010000"].map((bits, r) =>
    [...bits].map((bit, c) => (bit === "1" ? box(c * 6, r * 6, 6.4, 6.4, fill) : "")).join("")).join("")), 0, s);
  const screen = box(34, 92, 292, 222, "#0a0a14", 18, { stroke: neon, "stroke-width": 7 }) + box(50, 108, 260, 190, "#10142c", 8) +
    row(18, (k) => box(60 + ((k * 71) % 240), 114 + ((k * 53) % 170), 3, 3, "#ffffffa0")) +
    row(4, (k) => invader(66 + k * 62, 126, 0.78, ["#7dff6b", "#ffd23f", "#ff5a7a", "#5ad1ff"][k], 0)) + row(3, (k) => invader(96 + k * 62, 178, 0.78, ["#5ad1ff", "#7dff6b", "#ffd23f"][k], 1)) +
    moving("dodge", shape("M160 288h40v-13h-14v-11h-12v11h-14z", "#fff") + moving("rise-fast", box(177, 236, 6, 20, neon))) +
    row(3, (k) => at(262 + k * 17, 122, shape("M0 4q-8 -8 -4 -11q3 -1 4 2q1 -3 4 -2q4 3 -4 11z", "#ff5a7a"))) + box(150, 318, 60, 20, "#23233b") + box(110, 336, 140, 10, "#23233b", 5);
  const button = (x, y, fill, d) => disc(x, y, 14, fill, { class: `twinkle d${d}` });
  const controller = at(180, 440, moving("rumble", shape("M-92 -56Q-120 -62 -134 -20Q-158 62 -128 76Q-104 86 -72 34H72Q104 86 128 76Q158 62 134 -20Q120 -62 92 -56Q70 -64 50 -50H-50Q-70 -64 -92 -56z", pad) +
    box(-106, -18, 52, 17, "#23242e", 5) + box(-88, -36, 17, 52, "#23242e", 5) + button(84, -30, "#ffd23f", 0) + button(84, 12, "#43d17a", 1) + button(62, -9, "#4aa3ff", 2) + button(106, -9, "#ff5a6e", 0) +
    disc(-36, 22, 21, "#23242e") + disc(-36, 22, 13, "#555a70") + disc(36, 22, 21, "#23242e") + disc(36, 22, 13, "#555a70") + box(-20, -34, 14, 8, "#23242e", 4) + box(6, -34, 14, 8, "#23242e", 4)));
  return box(0, 0, 360, 780, back) + row(6, (k) => line(`M${k * 72} 520L${k * 150 - 195} 780`, neon, 2, { opacity: 0.5 })) + row(5, (k) => line(`M0 ${526 + k * k * 12 + k * 8}H360`, neon, 2, { opacity: 0.5 })) + halo(180, 210, 210, neon) + screen + controller;
}

const note = (x, y, size, fill, d, pair = false) => at(x, y, moving(`float d${d}`,
  pair ? line("M0 0V-58L44 -68V-10", fill, 7) + line("M0 -56L44 -66", fill, 13) + oval(-10, 2, 14, 10, fill) + oval(34, -8, 14, 10, fill)
    : line("M0 0V-60Q26 -48 22 -22", fill, 7) + oval(-10, 2, 14, 10, fill)), 0, size);

export function music(random) {
  const [back, floor, light] = pick(random, [["#f7c59f", "#b5653a", "#fff3d9"], ["#25324f", "#141c33", "#7fe3ff"], ["#f2e0f7", "#a878b8", "#7a3fa0"]]);
  const bars = row(14, (k) => at(16 + k * 25, 520, moving(`level d${k % 3}${k % 2 ? " fast" : ""}`, box(-8, -60 - ((k * 37) % 70), 16, 60 + ((k * 37) % 70), light, 6, { opacity: 0.55 }))));
  const notes = note(66, 196, 1, light, 0, true) + note(300, 190, 1.1, light, 1) + note(312, 372, 0.85, light, 2, true) + note(48, 380, 0.9, light, 1);
  return room(back, floor, 520) + halo(180, 290, 200, light) + bars + (random() < 0.5 ? guitar(random) : vinyl(random)) + notes;
}

function guitar(random) {
  const [wood, edge] = pick(random, [["#d98236", "#8a4716"], ["#c0392b", "#6e1c13"], ["#e8b45a", "#9a6a1d"]]);
  return at(180, 352, moving("sway", shape("M0 -96C44 -102 70 -72 56 -34C50 -14 62 0 78 20C106 66 84 138 0 138C-84 138 -106 66 -78 20C-62 0 -50 -14 -56 -34C-70 -72 -44 -102 0 -96z", edge) +
    at(0, 4, shape("M0 -96C44 -102 70 -72 56 -34C50 -14 62 0 78 20C106 66 84 138 0 138C-84 138 -106 66 -78 20C-62 0 -50 -14 -56 -34C-70 -72 -44 -102 0 -96z", wood), 0, 0.9) +
    disc(0, 12, 31, edge) + disc(0, 12, 25, "#1c120c") + box(-14, -268, 28, 280, "#4a2c17", 4) + row(9, (k) => box(-14, -250 + k * 22, 28, 3, "#e0cda0")) +
    shape("M-20 -318H20L15 -266H-15z", "#3a2011") + row(3, (k) => disc(-26, -308 + k * 16, 6, "#e8d8a8") + disc(26, -308 + k * 16, 6, "#e8d8a8")) + box(-36, 82, 72, 13, "#3a2011", 4) +
    row(6, (k) => line(`M${-9 + k * 3.6} -300V86`, "#f5efdd", 1.4))), 16);
}

function vinyl(random) {
  const label = pick(random, ["#e63946", "#ffb703", "#2a9d8f"]);
  return box(46, 170, 268, 268, "#6b4226", 20) + box(56, 180, 248, 248, "#8a5a36", 14) +
    at(166, 304, moving("spin", disc(0, 0, 106, "#17171c") + row(5, (k) => disc(0, 0, 96 - k * 13, "none", { stroke: "#34343d", "stroke-width": 2 })) + shape("M0 0L-30 -100A104 104 0 0 1 30 -100z", "#ffffff24") + shape("M0 0L-30 100A104 104 0 0 0 30 100z", "#ffffff1c") + disc(0, 0, 36, label) + box(-20, -20, 40, 6, "#ffffffb0", 3) + disc(0, 0, 6, "#f3ead9"))) +
    disc(278, 208, 19, "#d9d4ca") + disc(278, 208, 10, "#8d8980") + at(278, 208, moving("needle", line("M0 0L8 108L-34 146", "#e8e4da", 9) + box(-48, 136, 24, 18, "#2b2b31", 4, { transform: "rotate(-38 -36 145)" }))) + disc(282, 404, 13, "#e63946");
}

export function fitness(random) {
  const who = { ...someone(random), top: pick(random, ["#ff5252", "#00b894", "#5f6bff"]), legs: "#23263a", shoes: "#fff" };
  const [wall, floor, stripe] = pick(random, [["#3b4358", "#262b3a", "#ffce3d"], ["#dfe5ea", "#8b96a5", "#ff7043"], ["#214a4a", "#153030", "#b7f34d"]]);
  const plate = (x, r, fill) => box(x - 10, -r, 20, r * 2, fill, 7);
  const bar = at(180, 178, row(2, (s) => at(0, 0, plate(112, 50, "#e23d3d") + plate(134, 38, "#2d6cdf") + plate(152, 24, "#f2c230"), s * 180)) + line("M-164 0H164", "#d3d8e2", 9));
  const kettle = (x, s, fill) => at(x, 500, line("M-20 -40Q-26 -84 0 -84Q26 -84 20 -40", fill, 13) + disc(0, -12, 37, fill) + box(-24, 16, 48, 12, fill, 6) + disc(-12, -22, 9, "#ffffff38"), 0, s);
  return room(wall, floor, 470) + box(0, 96, 360, 16, stripe) + row(4, (k) => box(18 + k * 92, 130, 66, 230, "#ffffff12", 6)) + oval(180, 500, 130, 20, "#00000030") +
    moving("lift", figure(180, 366, who, [[-78, -124], [-82, -184], [78, -124], [82, -184], [-44, 62], [-40, 122], [44, 62], [40, 122]], 1) + bar) +
    kettle(52, 0.85, "#1b1d26") + kettle(312, 0.72, stripe) + row(3, (k) => at(130 + k * 50, 210, moving(`drip d${k}`, shape("M0 0q-8 14 0 18q8 -4 0 -18z", "#7fd4ff"))));
}

export function cars(random) {
  const body = pick(random, ["#e63946", "#ffb703", "#1f9e89", "#3a6fd8", "#f4f1ea"]);
  const [sky, city, sun] = pick(random, [["#ffb38a", "#a85d7a", "#ffe08a"], ["#8fd3f5", "#6c95b8", "#fff6c9"], ["#1d2348", "#39406f", "#f5f0d0"]]);
  const skyline = row(9, (k) => box(k * 44 - 10, 210 + ((k * 67) % 110), 38, 250, city, 3) + row(4, (r) => box(k * 44 - 2, 232 + ((k * 67) % 110) + r * 26, 8, 12, "#ffe9a870") + box(k * 44 + 12, 232 + ((k * 67) % 110) + r * 26, 8, 12, "#ffe9a870")));
  const wheel = (x) => at(x, 438, moving("spin fast", disc(0, 0, 38, "#1c1d24") + disc(0, 0, 22, "#cdd3de") + row(5, (k) => at(0, 0, box(-3, -20, 6, 20, "#7d8493"), k * 72)) + disc(0, 0, 7, "#1c1d24")));
  const shell = random() < 0.5
    ? shape("M14 428Q10 376 62 366L112 300Q122 288 146 288H226Q246 288 258 302L296 356Q342 362 346 396L344 430z", body) + shape("M92 358L126 308H172V358z", "#bfe6f7") + shape("M184 308H226Q238 308 246 320L268 358H184z", "#bfe6f7")
    : shape("M12 428Q8 396 48 384L116 366Q160 322 214 322Q262 324 288 366Q340 372 348 404L346 430z", body) + shape("M140 366Q168 336 208 336V366z", "#bfe6f7") + shape("M218 336Q250 340 268 366H218z", "#bfe6f7") + line("M34 372L20 352H62", body, 11);
  return box(0, 0, 360, 780, sky) + halo(84, 170, 110, sun) + disc(84, 170, 44, sun) + moving("pan", skyline) + box(0, 452, 360, 328, "#3d4150") + box(0, 448, 360, 9, "#e8e5da") +
    moving("road", row(6, (k) => box(k * 120 - 120, 548, 66, 11, "#ffe08a", 4))) + oval(180, 474, 172, 14, "#00000048") +
    moving("rumble", shell + box(14, 398, 332, 9, "#00000022") + line("M178 366V420", "#00000030", 3) + box(190, 380, 24, 6, "#00000050", 3) + shape("M346 378Q326 374 318 390L346 398z", "#fff6c9") + box(10, 386, 18, 16, "#ff4b4b", 4)) + wheel(92) + wheel(272) +
    row(3, (k) => at(6, 424 + k * 12, moving(`puff d${k}`, disc(0, 0, 12, "#ffffff90"))));
}

export function science(random) {
  const [back, bench, fluid, fluid2] = pick(random, [["#0f2b46", "#20466b", "#39e58c", "#ff5fa2"], ["#e3f1f5", "#9fb9c6", "#8a4fff", "#ff8a3d"], ["#2b1b4d", "#4b3480", "#ffd23f", "#3dd6ff"]]);
  const ink = back.startsWith("#e") ? "#33536b" : "#ffffff";
  const atom = at(258, 178, row(3, (k) => at(0, 0, oval(0, 0, 78, 27, "none", { stroke: fluid2, "stroke-width": 5 }) + electron(k), k * 60)) + disc(0, 0, 16, fluid) + disc(-9, 8, 10, fluid2));
  const bubbles = (n, w, h, fill) => row(n, (k) => at(((k * 41) % w) - w / 2, -((k * 29) % h), moving(`bubble d${k % 3}`, disc(0, 0, 5 + (k % 3) * 4, fill, { opacity: 0.8 }))));
  const flask = at(142, 490, shape("M-26 -230H26V-140L98 -20Q106 0 84 0H-84Q-106 0 -98 -20L-26 -140z", "#ffffff38") + shape("M-57 -88Q-28 -100 0 -88T57 -88L98 -20Q106 0 84 0H-84Q-106 0 -98 -20z", fluid) + bubbles(8, 110, 66, "#ffffff") +
    line("M-26 -230V-140L-98 -20Q-106 0 -84 0H84Q106 0 98 -20L26 -140V-230M-36 -232H36", ink, 8) + line("M-58 -50L-40 -82", "#ffffffb0", 8)) + at(142, 250, bubbles(5, 34, 90, fluid));
  const tube = (x, fill, h, d) => at(x, 492, box(-17, -150, 34, 150, "#ffffff38", 17) + shape(`M-17 ${-h}H17V-17A17 17 0 0 1 -17 -17z`, fill) + line("M-17 -150V-17A17 17 0 0 0 17 -17V-150M-24 -150H24", ink, 6) + at(0, -h, moving(`bubble d${d}`, disc(0, 10, 6, "#fff"))));
  return room(back, bench, 492) + row(6, (k) => line(`M0 ${60 + k * 76}H360M${30 + k * 62} 0V492`, ink, 1, { opacity: 0.14 })) + halo(142, 400, 150, fluid) + atom + flask + tube(262, fluid2, 96, 0) + tube(308, "#ffb53d", 60, 1) + box(238, 420, 96, 11, ink, 4) +
    at(70, 160, moving("sway", line("M-18 44L22 -28", ink, 17) + line("M4 -40L40 -20", ink, 13) + line("M-46 62H32M-40 58Q-62 20 -34 -6", ink, 9) + box(-30, 42, 34, 8, ink, 3)));
}

function electron(k) {
  return moving(`orbit d${k}`, disc(78, 0, 8, "#fff"));
}
