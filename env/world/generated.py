"""A synthetic catalogue and synthetic users for a first run, before any import.

There are eight markets of short video, each with its languages. A creator has one home market, one
or two topics and an output that varies widely; most items are shown everywhere. Every language has
enough items for the first pages of its audience, and some music and dance is without words. Ids,
titles and numbers depend on the seed alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from env.vocabulary import CreatorId, Floats, Item, ItemId, Profile, UserId

DAY_MS = 86_400_000
OLDEST_DAYS = 30
LOCAL_SHARE = 0.1
ITEMS_PER_CREATOR = 12
LEAST_SHARE = 0.1
"""Each language has this share of the items at least: the first pages of a small audience need as
many as those of a large one."""

WORDLESS = ("music", "dance")
WORDLESS_SHARE = 0.5
SUBTOPICS = ("basics", "daily", "challenge", "review", "tips", "live", "fails", "story")
COHORTS = {"full_active": 0.6, "high_active": 0.2, "middle_active": 0.1, "low_active": 0.1}


@dataclass(frozen=True, slots=True)
class Market:
    """A country with its share of users and its languages."""

    country: str
    weight: float
    languages: tuple[str, ...]


MARKETS = (
    Market("US", 0.26, ("en",)),
    Market("ID", 0.24, ("id",)),
    Market("VN", 0.13, ("vi",)),
    Market("PH", 0.12, ("tl", "en")),
    Market("TH", 0.10, ("th",)),
    Market("GB", 0.08, ("en",)),
    Market("MY", 0.05, ("ms", "en")),
    Market("SG", 0.02, ("en",)),
)

TOPICS: dict[str, dict[str, str]] = {
    "cooking": {
        "id": "memasak",
        "ms": "memasak",
        "vi": "nấu ăn",
        "th": "ทำอาหาร",
        "tl": "pagluluto",
    },
    "dance": {"id": "tari", "ms": "tarian", "vi": "nhảy", "th": "เต้น", "tl": "sayaw"},
    "football": {"id": "sepak bola", "ms": "bola sepak", "vi": "bóng đá", "th": "ฟุตบอล"},
    "beauty": {"id": "kecantikan", "ms": "kecantikan", "vi": "làm đẹp", "th": "ความงาม"},
    "comedy": {"id": "komedi", "ms": "komedi", "vi": "hài", "th": "ตลก", "tl": "komedya"},
    "pets": {"id": "hewan", "ms": "haiwan", "vi": "thú cưng", "th": "สัตว์เลี้ยง", "tl": "alaga"},
    "travel": {"id": "jalan-jalan", "ms": "melancong", "vi": "du lịch", "th": "ท่องเที่ยว"},
    "gaming": {"vi": "trò chơi", "th": "เกม"},
    "music": {"id": "musik", "ms": "muzik", "vi": "âm nhạc", "th": "ดนตรี", "tl": "musika"},
    "fitness": {"id": "kebugaran", "ms": "kecergasan", "vi": "thể hình", "th": "ฟิตเนส"},
    "cars": {"id": "mobil", "ms": "kereta", "vi": "xe hơi", "th": "รถยนต์", "tl": "kotse"},
    "science": {"id": "sains", "ms": "sains", "vi": "khoa học", "th": "วิทยาศาสตร์", "tl": "agham"},
    "fashion": {"id": "mode", "ms": "fesyen", "vi": "thời trang", "th": "แฟชั่น"},
    "gardening": {"id": "berkebun", "ms": "berkebun", "vi": "làm vườn", "th": "ทำสวน"},
    "streetfood": {"id": "jajanan", "ms": "makanan jalanan", "vi": "ẩm thực đường phố"},
    "crafts": {"id": "kerajinan", "ms": "kraf", "vi": "thủ công", "th": "งานฝีมือ"},
}
"""Each topic with its word in languages other than English, where there is one."""


def catalogue(seed: int, n: int, now_ms: int) -> list[Item]:
    """Return n >= 1 items, newest first, uploaded in the 30 days before `now_ms` (Unix ms)."""
    rng = np.random.default_rng([seed, 1])
    creators = _Creators.draw(rng, max(n // ITEMS_PER_CREATOR, 1))
    age_ms = np.sort(rng.exponential(OLDEST_DAYS / 4.0, n).clip(0.0, OLDEST_DAYS) * DAY_MS)
    duration_s = np.exp(rng.normal(np.log(30.0), 0.8, n)).clip(5.0, 600.0)
    who = rng.choice(len(creators.share), n, p=creators.share)
    items = [
        _make_item(rng, k, creators, int(who[k]), float(duration_s[k]), now_ms - int(age_ms[k]))
        for k in range(n)
    ]
    own_rng = np.random.default_rng([seed, 6])  # so that all else is drawn as without languages
    return _without_words(_with_least_shares(items, own_rng), own_rng)


def users(
    seed: int, n: int, now_ms: int, cohorts: Mapping[str, float] = COHORTS
) -> list[tuple[UserId, Profile]]:
    """Return n users with profiles, registered in the three years before `now_ms` (Unix ms).

    `cohorts` holds shares by name, relative to their sum.
    """
    rng = np.random.default_rng([seed, 2])
    homes = rng.choice(len(MARKETS), n, p=_market_shares())
    shares = np.array(list(cohorts.values()))
    names = np.random.default_rng([seed, 3]).choice(list(cohorts), n, p=shares / shares.sum())
    return [
        (UserId(f"viewer-{k:06d}"), _make_profile(rng, MARKETS[home], str(cohort), now_ms))
        for k, (home, cohort) in enumerate(zip(homes, names, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class _Creators:
    """Columns over creators."""

    share: Floats  # (m,) of all uploads: a heavy tail
    home: Sequence[Market]
    topics: Sequence[tuple[str, ...]]

    @staticmethod
    def draw(rng: np.random.Generator, m: int) -> "_Creators":
        names = list(TOPICS)
        output = rng.lognormal(0.0, 1.2, m)
        return _Creators(
            share=output / output.sum(),
            home=[MARKETS[k] for k in rng.choice(len(MARKETS), m, p=_market_shares())],
            topics=[
                tuple(names[k] for k in rng.choice(len(names), rng.integers(1, 3), replace=False))
                for _ in range(m)
            ],
        )


def _make_item(
    rng: np.random.Generator,
    k: int,
    creators: _Creators,
    who: int,
    duration_s: float,
    published_ms: int,
) -> Item:
    home = creators.home[who]
    language = _pick(rng, home.languages)
    topic = _pick(rng, creators.topics[who])
    subtopic = _pick(rng, SUBTOPICS)
    word = TOPICS[topic].get(language, topic)
    return Item(
        item_id=ItemId(f"clip-{k:06d}"),
        creator=CreatorId(f"creator-{who:05d}"),
        title=f"{word} · {subtopic} #{int(rng.integers(1, 100))}",
        tags=(topic, f"{topic}/{subtopic}"),
        duration_s=round(duration_s, 1),
        published_ms=published_ms,
        language=language,
        country=home.country,
        markets=(home.country,) if rng.random() < LOCAL_SHARE else (),
        sound=f"sound-{int(rng.integers(0, 400)):04d}",
    )


def _make_profile(rng: np.random.Generator, home: Market, cohort: str, now_ms: int) -> Profile:
    device = _pick(rng, ("phone",) * 9 + ("tablet", "desktop"))
    systems = {"desktop": ("windows", "macos"), "tablet": ("android", "ipados")}
    return Profile(
        country=home.country,
        language=_pick(rng, home.languages),
        device=device,
        os=_pick(rng, systems.get(device, ("android", "android", "ios"))),
        apps=tuple(app for app in ("chat", "games", "shopping", "maps") if rng.random() < 0.5),
        cohort=cohort,
        registered_ms=now_ms - int(rng.integers(1, 3 * 365)) * DAY_MS,
    )


def _with_least_shares(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Return the items with creators moved to the languages that have less than `LEAST_SHARE`.

    A creator who uploads in one common language only moves, to where the rarest one is at home.
    """
    least = LEAST_SHARE * len(items)
    homes = {market.languages[0]: market for market in reversed(MARKETS)}
    of_creator: dict[CreatorId, list[Item]] = {}
    for item in items:
        of_creator.setdefault(item.creator, []).append(item)
    counts = Counter(_spoken(items))
    moved: dict[CreatorId, Market] = {}
    for name in rng.permutation(list(of_creator)).tolist():
        theirs = of_creator[name]
        common, rare = theirs[0].language, min(homes, key=lambda code: counts[code])
        is_common = counts[common] - len(theirs) >= 2.0 * least
        if is_common and len(theirs) <= least - counts[rare] and len({*_spoken(theirs)}) == 1:
            moved[name] = homes[rare]
            counts[rare] += len(theirs)
            counts[common] -= len(theirs)
    return [_moved(item, moved[item.creator]) if item.creator in moved else item for item in items]


def _spoken(items: Sequence[Item]) -> list[str]:
    return [item.language for item in items]


def _moved(item: Item, home: Market) -> Item:
    language, topic = home.languages[0], item.tags[0]
    _, dot, rest = item.title.partition(" · ")
    return msgspec.structs.replace(
        item,
        title=f"{TOPICS[topic].get(language, topic)}{dot}{rest}",
        language=language,
        country=home.country,
        markets=(home.country,) if item.markets else (),
    )


def _without_words(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Return the items, a part of the music and dance without a language."""
    is_wordless = rng.random(len(items)) < WORDLESS_SHARE
    return [
        msgspec.structs.replace(item, language="zxx")
        if wordless and item.tags[0] in WORDLESS
        else item
        for item, wordless in zip(items, is_wordless.tolist(), strict=True)
    ]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _market_shares() -> Floats:
    weights = np.array([market.weight for market in MARKETS])
    return np.asarray(weights / weights.sum())
