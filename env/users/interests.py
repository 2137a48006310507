"""What a user leans to: decayed sums of content vectors, and tallies of creators, tags, sounds.

Both are held as a state in a row needs them (bytes and short records), both decay with cards and
not with time, and both are read as of now.

An interest is a posterior mean, so that its match with an item is what the item is expected to be
worth beyond the usual, whether it rests on eight answers or on two hundred. With signals y = w . x
+ noise of variance sigma^2, and tastes w ~ N(0, tau^2 I), ridge regression is

    w = (sum(x x') + RIDGE I)^-1 sum(y x)        RIDGE = sigma^2 / tau^2

(Hoerl and Kennard, "Ridge Regression", Technometrics 1970), where sum(x x') of n unit vectors that
spread evenly over d directions is about n I / d. Eight answers then explain some 3% of what
differs between users' tastes, two hundred 47%.

Rejected: sum / (n + 8), as it was (a mean of signal x vector, which is longest where it is nothing
but noise, so that no weight of a match fits both newcomers and those well known), a matrix a user
(4 KB of a row that is rewritten with each event), and the population's second moment in place of
I / d (where content spreads evenly, as a generated catalogue's does, it is I / d).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np

from env.columns.schema import VECTOR_DIM
from env.vocabulary import Float32s, Floats

MAX_TALLIES = 32

TALLY_DECAY = 0.95

RIDGE = 14.0
"""Variance of a signal, .2, over that of what taste adds to it from item to item, .12 squared."""

DIRECTIONS = 16.0
"""That content spreads over."""

MAX_LENGTH = 4.0
"""Of an interest; that of a taste is tau sqrt(d), .5."""

NO_INTEREST = np.zeros(VECTOR_DIM, dtype="<f4").tobytes()


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a user had of one creator, tag or sound, as it stood at their card number `at`.

    Attributes:
        exposure: decayed count of impressions.
        signal: decayed sum of signals.
        at: the user's `n_cards` when this was written.
    """

    name: str
    exposure: float
    signal: float
    at: int


def add_interest(total: bytes, decay: float, signal: float, vector: bytes) -> bytes:
    """Return `decay * total + signal * vector`.

    Args:
        total: float32 bytes, (VECTOR_DIM,).
        decay: in (0, 1].
        signal: finite.
        vector: float16 bytes, (VECTOR_DIM,); anything else is a card without content, 0.
    """
    says_nothing = signal == 0.0 or len(vector) != 2 * VECTOR_DIM
    if says_nothing and decay == 1.0:
        return total
    kept: Float32s = np.frombuffer(total, dtype="<f4")
    if decay != 1.0:  # as for all that is said of a card after its answer
        kept = kept * np.float32(decay)
    if says_nothing:
        return kept.tobytes()
    return (kept + np.float32(signal) * _unpacked(vector)).tobytes()


def read_interest(total: bytes, evidence: float) -> Float32s:
    """Return the posterior mean of a taste, shape (VECTOR_DIM,), cut to `MAX_LENGTH`.

    Args:
        total: decayed sum of signal x vector, float32 bytes, (VECTOR_DIM,).
        evidence: decayed count of the answers in it, at least 0.
    """
    mean: Float32s = np.frombuffer(total, dtype="<f4").astype(np.float32)
    mean /= np.float32(RIDGE + evidence / DIRECTIONS)
    length = math.sqrt(float(np.add.reduce(mean * mean)))
    if length > MAX_LENGTH:
        mean *= np.float32(MAX_LENGTH / length)
    return mean


def read_interests(totals: Float32s, evidence: Floats) -> Float32s:
    """Return `read_interest` of n users, shape (n, VECTOR_DIM).

    Args:
        totals: of each, shape (n, VECTOR_DIM).
        evidence: of each, shape (n,).
    """
    means = totals / (RIDGE + evidence / DIRECTIONS).astype(np.float32)[:, None]
    lengths = np.sqrt(np.add.reduce(means * means, axis=1, dtype=np.float32))
    cut = MAX_LENGTH / np.maximum(lengths, MAX_LENGTH)
    return np.asarray(means * cut.astype(np.float32)[:, None], dtype=np.float32)


def add_tally(
    recent: tuple[Tally, ...], names: Sequence[str], n_cards: int, exposure: float, signal: float
) -> tuple[Tally, ...]:
    """Return the tallies with these names moved to the end and counted up, the oldest dropped.

    Args:
        recent: the latest last.
        names: creators, tags or sounds of one card.
        n_cards: the user's count of cards by now.
        exposure: to add, at least 0.
        signal: to add.
    """
    if not names or (exposure == 0.0 and signal == 0.0):
        return recent
    kept, last = recent[: -len(names)], recent[-len(names) :]
    if [tally.name for tally in last] != list(names):  # it is not the card that was told of last
        kept = tuple(tally for tally in recent if tally.name not in names)
        last = tuple(tally for tally in recent if tally.name in names)
    before = {tally.name: tally for tally in last}
    moved = []
    for name in dict.fromkeys(names):
        seen, felt = _aged(before[name], n_cards) if name in before else (0.0, 0.0)
        moved.append(Tally(name, seen + exposure, felt + signal, n_cards))
    return (*kept, *moved)[-MAX_TALLIES:]


def tally_columns(recent: Sequence[Tally], n_cards: int) -> tuple[list[str], Floats, Floats]:
    """Return names, exposures and signals as of now: of (state.creators, state.n_cards)."""
    aged = TALLY_DECAY ** (n_cards - np.array([tally.at for tally in recent], dtype=np.float64))
    exposure = np.array([tally.exposure for tally in recent]) * aged
    signal = np.array([tally.signal for tally in recent]) * aged
    return [tally.name for tally in recent], exposure, signal


@lru_cache(maxsize=4_096)
def _unpacked(vector: bytes) -> Float32s:
    """Return float16 bytes as float32; most of what is said about a card comes at once."""
    return np.frombuffer(vector, dtype="<f2").astype(np.float32)


def _aged(tally: Tally, n_cards: int) -> tuple[float, float]:
    kept = TALLY_DECAY ** (n_cards - tally.at)
    return tally.exposure * kept, tally.signal * kept
