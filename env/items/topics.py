"""The topic of an item: its first tag, or the signs of its vector where it has no tags.

Slot rules space topics, and a user's answers are pooled by topic. A topic has a name, which a
user's state keeps, and a code, which is an index of one catalogue.
"""

from collections.abc import Sequence

import numpy as np

from env.items.catalogue import Catalogue
from env.vocabulary import Float32s, Ints

N_SIGNS = 5
UNKNOWN = -1 - (1 << N_SIGNS)
"""A code that no item has."""

_BY_SIGNS = "\0"
"""First character of the name of a topic by signs, which no tag has."""


def topics(catalogue: Catalogue, index: Ints) -> Ints:
    """Return a topic code for each of the items at `index`, shape (n,).

    The code is that of the first tag, where callers put the topic. An item without tags gets a
    negative code from the signs of its vector's first numbers, which near vectors share (Charikar,
    "Similarity estimation techniques from rounding algorithms", STOC 2002).
    """
    first: Ints = catalogue.tags[index, 0]
    if first.all():
        return first
    return np.where(first > 0, first, -1 - _signs(catalogue.vectors[index]))


def of_topic(catalogue: Catalogue, code: int) -> Ints:
    """Return the items of the topic of a code, ascending."""
    if code > 0:
        tagged = catalogue.of_tags(np.array([code]))
        of_tag: Ints = tagged[catalogue.tags[tagged, 0] == code]
        return of_tag
    is_of = (catalogue.tags[:, 0] == 0) & (-1 - _signs(catalogue.vectors) == code)
    by_signs: Ints = is_of.nonzero()[0]
    return by_signs


def topic_name(tags: Sequence[str], vector: bytes) -> str:
    """Return the name of a card's topic; empty where neither tags nor a vector are known.

    Args:
        tags: folded.
        vector: float16 bytes.
    """
    if tags:
        return tags[0]
    numbers = np.frombuffer(vector, dtype="<f2").astype(np.float32)
    return f"{_BY_SIGNS}{-1 - int(_signs(numbers))}" if len(numbers) else ""


def topic_codes(catalogue: Catalogue, names: Sequence[str]) -> Ints:
    """Return the codes of topics by name, shape (n,); UNKNOWN where the catalogue has none."""
    by_signs = [int(name[1:]) if name.startswith(_BY_SIGNS) else UNKNOWN for name in names]
    by_tag = catalogue.codes.tags(names)
    return np.where(by_tag > 0, by_tag, np.array(by_signs, dtype=np.int64))


def _signs(vectors: Float32s) -> Ints:
    signs: Ints = (vectors[..., :N_SIGNS] > 0.0) @ (1 << np.arange(N_SIGNS))
    return signs
