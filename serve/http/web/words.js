// How an item, a source and a number read on a card.

const REASONS = {
  long_interest: ["For you", "close to what you have watched over time"],
  session_interest: ["Right now", "close to what you watched in this visit"],
  topics: ["Your topic", "of a topic that your latest answers insist on"],
  collaborative: ["Liked alike", "liked by others who liked what you liked"],
  best: ["Well liked", "among the best received of all, whoever watched"],
  shared: ["Shared with you", "opened by a link, not drawn: nothing about it goes into the log"],
  popular: ["Popular here", "watched a lot in this country lately"],
  fresh: ["New", "uploaded lately, hardly seen yet"],
  debut: ["Just in", "an upload that is owed its first audience"],
  followed: ["Following", "from a creator whom you follow"],
  random: ["Discovery", "any item at all, so that nothing stays unseen"],
  again: ["Again", "seen before: nothing unseen is left"],
};
const TO_A_STRANGER = ["To begin with", "nothing is known of you yet: the feed starts broad and follows you"];
const PERSONAL = ["long_interest", "session_interest", "topics", "collaborative"];
const AGES = [
  ["year", 31557600],
  ["month", 2629800],
  ["week", 604800],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];
const regions = new Intl.DisplayNames("en", { type: "region", fallback: "code" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return `[badge, explanation]` of a card's retrieval source; a stranger has no past to refer to. */
export function describeReason({ reason, isToStranger }) {
  if (isToStranger && PERSONAL.includes(reason)) return TO_A_STRANGER;
  return REASONS[reason] ?? [readable(reason) || "In the feed", "proposed by a source of this server"];
}

/** Return a tag as it is written on a card: the narrowest part of its path. */
export function describeTag(tag) {
  return `#${/^[\p{L}\p{N}_/-]+$/u.test(tag) ? tag.split("/").at(-1) || tag : tag}`;
}

/** Return the topic of an item: what its picture shows and its colour stands for. */
export function topicOf(item) {
  return item.tags?.[0] ?? "";
}

/** Return what stands large on a card. */
export function titleOf(item) {
  return item.title || `Video ${item.item_id}`;
}

/** Return the facts of an item as one line: country, age, length. */
export function describeItem(item, nowMs) {
  const facts = [
    item.country && nameCountry(item.country),
    item.published_ms && describeAge(item.published_ms, nowMs),
    item.duration_s && formatClock(item.duration_s),
  ];
  return facts.filter(Boolean).join(" · ");
}

/** Return "3 days ago". */
export function describeAge(publishedMs, nowMs) {
  const seconds = Math.max(0, (nowMs - publishedMs) / 1000);
  const [unit, length] = AGES.find(([, size]) => seconds >= size) ?? ["minute", 60];
  return relative.format(-Math.floor(seconds / length), unit);
}

/** Return "1:05". */
export function formatClock(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Return a probability with three digits that count, as "12.3%". */
export function formatChance(propensity) {
  return `${Number((propensity * 100).toPrecision(3))}%`;
}

/** Return a probability in words. */
export function describeOdds(propensity) {
  if (propensity < 0.4) return `about 1 in ${Math.round(1 / propensity)}`;
  return propensity < 0.95 ? `about ${Math.round(propensity * 10)} in 10` : "nearly certain";
}

/** Return two signs that stand for a creator. */
export function initialsOf(creator) {
  const number = creator.match(/\d\d?$/);
  if (number) return number[0];
  const parts = creator.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const signs = parts.length > 1 ? parts[0][0] + parts[1][0] : (parts[0] ?? "?").slice(0, 2);
  return signs.toUpperCase();
}

function readable(reason) {
  const words = (reason ?? "").replaceAll("_", " ").trim();
  return words && words[0].toUpperCase() + words.slice(1);
}

function nameCountry(code) {
  return /^[A-Z]{2}$/.test(code) ? regions.of(code) : code;
}
