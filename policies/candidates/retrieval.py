"""Retrieval merges what the sources propose into a few hundred candidates, by share.

Uploads with a shortfall come first. Every other source gets a fixed share of the result; a source
without proposals leaves its share to the others. The sources are in `policies.candidates.sources`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from env.arrays.index_sets import first_indices
from env.vocabulary import Floats, Ints
from policies.candidates.query import Query, Source
from policies.candidates.sources import FIRST, LAST, SOURCES


@dataclass(frozen=True)
class Retrieved:
    """Proposed items, the most wanted first."""

    index: Ints  # (m,) distinct catalogue indices
    source: Ints  # (m,) codes into `names`
    names: tuple[str, ...]  # names of the sources, logged as reasons

    def reason(self, row: int) -> str:
        """Return the name of the source that proposed the item in this row."""
        return self.names[int(self.source[row])]


def retrieve(query: Query, n: int, sources: Sequence[Source] = SOURCES) -> Retrieved:
    """Return n items for a user, fewer only where the sources that have a share know no more.

    Blocked items and items that are not eligible are never proposed. Items that the user has seen
    or has on an open page come last, by source "again"; the filters decide about them.

    Args:
        query: gives the shares; it is retrieved once, since its generator moves on.
        n: number of items, at least the reserved ones.
        sources: asked in this order.
    """
    names = (*(source.name for source in sources), FIRST.name, LAST.name)
    debut = FIRST.propose(query, n)
    n -= len(debut)
    given = query.settings.shares
    shares = [given.get(source.name, source.share) for source in sources]
    index, source = _merge([source.propose(query, n) for source in sources], shares, n)
    again = LAST.propose(query, n - len(index)) if len(index) < n else index[:0]
    if not len(debut) and not len(again):
        return Retrieved(index, source, names)
    codes = np.repeat([len(sources), len(sources) + 1], [len(debut), len(again)])
    return Retrieved(
        np.concatenate([debut, index, again]),
        np.concatenate([codes[: len(debut)], source, codes[len(debut) :]]),
        names,
    )


def _merge(lists: Sequence[Ints], shares: Sequence[float], n: int) -> tuple[Ints, Ints]:
    """Return the first n distinct items and their sources' codes, interleaved by share.

    The item of rank r of a source is due at (r + 1/2) / share (stride scheduling: Waldspurger and
    Weihl, MIT/LCS/TM-528, 1995); an item that several propose is credited to the first.
    """
    order, source = _schedule(tuple(shares), tuple(map(len, lists)))
    ranked = [index for index, share in zip(lists, shares, strict=True) if share > 0.0]
    if not ranked:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    merged = np.concatenate(ranked)[order]
    first = first_indices(merged)[:n]
    return merged[first], source[first]


@lru_cache(maxsize=256)
def _schedule(shares: tuple[float, ...], lengths: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Return the order in which the joined lists' items are due, and the source of each.

    It depends on the lists' lengths only, and these are nearly always the same.
    """
    due: list[Floats] = [np.zeros(0)]
    source = [np.zeros(0, np.int64)]
    for code, (share, length) in enumerate(zip(shares, lengths, strict=True)):
        if share > 0.0:
            due.append(np.asarray((np.arange(length) + 0.5) / share, dtype=np.float64))
            source.append(np.full(length, code))
    order = np.argsort(np.concatenate(due), kind="stable")
    return order, np.concatenate(source)[order]
