"""A user's interests and tallies: decayed sums of content vectors, and of creators, tags, sounds.

An interest is the posterior mean of a ridge regression, so its match with an item is the expected
signal whether it rests on eight answers or two hundred. Both kinds decay by cards and not by time,
and are stored in a form ready for a database row. Derivation, constants and rejected alternatives:
`docs/decisions/user-interests.md`.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import numpy as np

from env.arrays.reals import Reals
from env.arrays.vectors import padded_sum
from env.columns.schema import CONTENT_DIM, VECTOR_DIM
from env.vocabulary import Float32s, Floats

MAX_TALLIES = 32
TALLY_DECAY = 0.95
RIDGE = 14.0
"""Variance of a signal, .2, over the variance that taste adds from item to item, .12 squared."""

DIRECTIONS = 16.0
"""Number of directions that content spreads over."""

MAX_LENGTH = 4.0
"""Largest length of an interest; the expected length of a taste, tau sqrt(d), is .5."""

NO_INTEREST = np.zeros(VECTOR_DIM, dtype="<f4").tobytes()
"""A sum is as long as the longest vector in it; the numbers that a vector lacks are 0."""

_HALVES = (2 * VECTOR_DIM, 2 * CONTENT_DIM)


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A user's exposure and signal for one creator, tag or sound, as of card number `at`."""

    name: str
    exposure: float  # decayed count of impressions
    signal: float  # decayed sum of signals
    at: int  # the user's `n_cards` when this was written


def add_interest(total: bytes, decay: float, signal: float, vector: bytes) -> bytes:
    """Return `decay * total + signal * vector`.

    Args:
        total: float32 bytes, (VECTOR_DIM,) or (CONTENT_DIM,).
        decay: in (0, 1].
        signal: finite.
        vector: float16 bytes, as long as either; bytes of another length count as 0.
    """
    says_nothing = signal == 0.0 or len(vector) not in _HALVES
    if says_nothing and decay == 1.0:
        return total
    kept: Float32s = np.frombuffer(total, dtype="<f4")
    if decay != 1.0:  # decay is 1 for all feedback about a card after its answer
        kept = kept * np.float32(decay)
    if says_nothing:
        return kept.tobytes()
    return padded_sum(kept, np.float32(signal) * _unpacked(vector)).tobytes()


def read_interest(total: bytes, evidence: float) -> Float32s:
    """Return the posterior mean of a taste, as long as the sum, cut to `MAX_LENGTH`.

    Args:
        total: decayed sum of signal x vector, float32 bytes, (VECTOR_DIM,) or (CONTENT_DIM,).
        evidence: decayed count of the answers in it, at least 0.
    """
    mean: Float32s = np.frombuffer(total, dtype="<f4").astype(np.float32)
    mean /= np.float32(RIDGE + evidence / DIRECTIONS)
    length = math.sqrt(float(np.add.reduce(mean * mean)))
    if length > MAX_LENGTH:
        mean *= np.float32(MAX_LENGTH / length)
    return mean


def read_interests(totals: Float32s, evidence: Floats) -> Float32s:
    """Return `read_interest` of n users, from totals (n, VECTOR_DIM) and evidence (n,)."""
    means = totals / (RIDGE + evidence / DIRECTIONS).astype(np.float32)[:, None]
    lengths = np.sqrt(np.add.reduce(means * means, axis=1, dtype=np.float32))
    cut = MAX_LENGTH / np.maximum(lengths, MAX_LENGTH)
    return np.asarray(means * cut.astype(np.float32)[:, None], dtype=np.float32)


def add_tally(
    recent: tuple[Tally, ...], names: Sequence[str], n_cards: int, exposure: float, signal: float
) -> tuple[Tally, ...]:
    """Return the tallies, latest last, with these names counted up and moved to the end.

    The oldest are dropped beyond `MAX_TALLIES`. `n_cards` is the user's current count of cards.
    """
    if not names or (exposure == 0.0 and signal == 0.0):
        return recent
    kept, last = recent[: -len(names)], recent[-len(names) :]
    if [tally.name for tally in last] != list(names):  # another card than the last tallied one
        kept = tuple(tally for tally in recent if tally.name not in names)
        last = tuple(tally for tally in recent if tally.name in names)
    before = {tally.name: tally for tally in last}
    moved = []
    for name in dict.fromkeys(names):
        seen, felt = _aged(before[name], n_cards) if name in before else (0.0, 0.0)
        moved.append(Tally(name, seen + exposure, felt + signal, n_cards))
    return (*kept, *moved)[-MAX_TALLIES:]


def tally_columns(recent: Sequence[Tally], n_cards: int) -> tuple[list[str], Floats, Floats]:
    """Return names, exposures and signals decayed to now: of (state.creators, state.n_cards)."""
    aged = TALLY_DECAY ** (n_cards - np.array([tally.at for tally in recent], dtype=np.float64))
    exposure = np.array([tally.exposure for tally in recent]) * aged
    signal = np.array([tally.signal for tally in recent]) * aged
    return [tally.name for tally in recent], exposure, signal


LANGUAGE_CARDS = 2.0
"""Weight of the prior of a language's rate, in cards of that language."""

OWN_RATE, OTHER_RATE = 0.5, 0.05
"""Prior rates of valid plays of the user's own languages, and of any other."""

LIKED_RATE = 0.1
"""A language that is played at this rate or more is one that the user plays."""


@dataclass(frozen=True, slots=True)
class LanguageRates:
    """A user's posterior rates of valid plays a card, by language.

    The prior says that users play their own languages and hardly any other; a few cards of a
    language outweigh it. Constants and rejected alternatives: `docs/decisions/languages.md`.
    """

    own: float = OWN_RATE  # of the user's own languages together
    other: float = OTHER_RATE  # of a language that the user never met
    met: dict[str, float] = field(default_factory=dict)  # of other languages of recent cards
    n_met: float = 0.0  # decayed count of cards in these

    @classmethod
    def of(cls, recent: Sequence[Tally], n_cards: int, own: Collection[str]) -> "LanguageRates":
        """Return the rates of (state.languages, state.n_cards).

        Args:
            recent: tallies whose signal is the count of valid plays.
            n_cards: the user's current count of cards.
            own: the user's own languages; none where they are unknown, so that any may be.
        """
        names, exposure, plays = tally_columns(recent, n_cards)
        prior = OTHER_RATE if own else OWN_RATE
        met = {
            name: float(language_rate(plays[k], exposure[k], prior))
            for k, name in enumerate(names)
            if name not in own
        }
        is_own = [k for k, name in enumerate(names) if name in own]
        n_own, n_plays = (sum(float(column[k]) for k in is_own) for column in (exposure, plays))
        rate = float(language_rate(n_plays, n_own, OWN_RATE))
        return cls(rate, prior, met, sum(map(float, exposure)) - n_own)

    @property
    def liked(self) -> dict[str, float]:
        """The rates of the other languages that the user plays."""
        return {name: rate for name, rate in self.met.items() if rate >= LIKED_RATE}

    @property
    def liked_share(self) -> float:
        """The share of the user's cards that the other languages deserve, in [0, 1)."""
        liked = sum(self.liked.values())
        return liked / (self.own + liked)


def language_rate(plays: Reals, exposure: Reals, prior: Reals) -> Reals:
    """Return a language's posterior rate of plays; the prior weighs `LANGUAGE_CARDS`."""
    return (plays + LANGUAGE_CARDS * prior) / (exposure + LANGUAGE_CARDS)


def language_share(rate: Reals, own: Reals) -> Reals:
    """Return the share of a language of this rate beside the user's own, in (0, 1)."""
    return rate / (rate + own)


@lru_cache(maxsize=4_096)
def _unpacked(vector: bytes) -> Float32s:
    """Return float16 bytes as float32; cached, since feedback about one card comes in bursts."""
    return np.frombuffer(vector, dtype="<f2").astype(np.float32)


def _aged(tally: Tally, n_cards: int) -> tuple[float, float]:
    kept = TALLY_DECAY ** (n_cards - tally.at)
    return tally.exposure * kept, tally.signal * kept
