"""Item factors of one generation, and the taste that a user's own answers give in them.

A taste is one ridge solve over the user's last answers (`env.users.answers`), likes and skips
both, so it needs no training and moves with every answer. Its products with item factors are the
columns `co_match` and `co_known`. Derivation, constants and rejected alternatives:
`docs/decisions/collaborative.md`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import msgspec
import numpy as np

from env.items.catalogue import Catalogue
from env.users.answers import read_answers
from env.users.state import UserState
from env.vocabulary import Float32s, Floats, Ints, Keys, ShortKeys

MAX_MATCH = 4.0
ITEM_HALF = 8.0
"""Answers to an item at which half of its factors is its own."""

USER_HALF = 2.0
"""Answers of a user, to items that have factors, at which half of the taste is theirs."""

PLAYED = 0.5
"""Least value of an answer that counts for an item."""

_FORMAT = "factors/1"


class Crowd(NamedTuple):
    """What is known of a user before any answer, from the tastes of all users."""

    mean: Float32s  # (d,) mean taste
    precision: Float32s  # (d, d) of a taste about the mean, in units of an answer's noise
    unseen: Float32s  # (d, d) precision by which items that were never answered count against
    typical: float  # answers of a user at which it counts in full, at least 1


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag=_FORMAT):
    n_dims: int
    keys: bytes  # uint64
    counts: bytes  # uint32
    factors: bytes  # float32, n_dims an item
    mean: bytes  # float32, n_dims
    precision: bytes  # float32, n_dims x n_dims
    unseen: bytes  # float32, n_dims x n_dims
    typical: float


def targets_of(values: Floats) -> tuple[Float32s, Float32s]:
    """Return the targets of answers and their weights, (n,) each.

    A play counts for the item, a skip against it; a reaction weighs more than watching does.
    """
    liked = values >= PLAYED
    targets = np.where(liked, 1.0, SKIPPED)
    weights = np.where(liked, 1.0 + EAGERNESS * (values - PLAYED), 1.0 + EAGERNESS * -values)
    return targets.astype(np.float32), np.maximum(weights, 1.0).astype(np.float32)


def _floats(data: bytes) -> Float32s:
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


SKIPPED = 0.2
"""Target of a skip; that of a play is 1, and that of an item never answered is 0."""

EAGERNESS = 0.5
"""Weight of an answer that one more unit of value adds."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemFactors:
    """The item factors of one generation; any number of threads may read them.

    Attributes:
        keys: shape (m,), ascending `env.records.item_key` of the items that have factors.
        counts: shape (m,), answers that each is learned from.
        factors: shape (m + 1, d); the last row is zero and stands for all other items.
        crowd: what is known of a user before any answer.
        version: number of the generation; 0: there is none.
    """

    keys: Keys
    counts: Floats
    factors: Float32s
    crowd: Crowd
    version: int
    _short: ShortKeys  # (m,) ascending
    _by_short: Ints  # (m,) row of each short key
    _known: Float32s  # (m + 1,)

    @classmethod
    def of(
        cls, keys: Keys, counts: Floats, factors: Float32s, crowd: Crowd, version: int = 0
    ) -> Self:
        """Return a generation.

        Args:
            keys: shape (m,), ascending and distinct.
            counts: shape (m,), at least 0.
            factors: shape (m, d), finite.
            crowd: of the same d; its precision positive definite.
            version: number of the generation.

        Raises:
            ValueError: the shapes do not fit, keys are not ascending, or a number is not finite.
        """
        m, d = factors.shape
        shapes = [keys.shape, counts.shape, *(part.shape for part in crowd[:3])]
        if shapes != [(m,), (m,), (d,), (d, d), (d, d)]:
            raise ValueError(
                f"expected ({m},) keys and counts and a crowd of {d} dimensions for factors "
                f"({m}, {d}), got {shapes}"
            )
        if np.any(keys[1:] <= keys[:-1]):
            raise ValueError("expected ascending and distinct keys")
        if not all(np.isfinite(part).all() for part in (factors, *crowd)):
            raise ValueError("expected finite factors and a finite crowd")
        short = keys.astype(np.uint32)
        order = np.argsort(short, kind="stable")
        known = np.append(counts / (counts + ITEM_HALF), 0.0)
        padded = np.concatenate([factors, np.zeros((1, d))]).astype(np.float32)
        return cls(
            keys,
            counts,
            padded,
            crowd,
            version,
            short[order],
            order,
            known.astype(np.float32),
        )

    @classmethod
    def from_bytes(cls, data: bytes, version: int) -> Self:
        """Return the generation that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no such generation.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no item factors: {error}") from error
        d = stored.n_dims
        lengths = len(stored.mean), len(stored.precision), len(stored.unseen)
        if d < 1 or len(stored.factors) % (4 * d) or lengths != (4 * d, 4 * d * d, 4 * d * d):
            raise ValueError(f"expected factors of {d} dimensions, got other lengths")
        crowd = Crowd(
            _floats(stored.mean),
            _floats(stored.precision).reshape(d, d),
            _floats(stored.unseen).reshape(d, d),
            stored.typical,
        )
        return cls.of(
            np.frombuffer(stored.keys, dtype="<u8").astype(np.uint64),
            np.frombuffer(stored.counts, dtype="<u4").astype(np.float64),
            _floats(stored.factors).reshape(-1, d),
            crowd,
            version,
        )

    def to_bytes(self) -> bytes:
        """Return the generation without its number; the same factors give the same bytes."""
        return msgspec.msgpack.encode(
            _Stored(
                self.n_dims,
                self.keys.astype("<u8").tobytes(),
                self.counts.astype("<u4").tobytes(),
                self.factors[:-1].astype("<f4").tobytes(),
                self.crowd.mean.astype("<f4").tobytes(),
                self.crowd.precision.astype("<f4").tobytes(),
                self.crowd.unseen.astype("<f4").tobytes(),
                self.crowd.typical,
            )
        )

    def __len__(self) -> int:
        """Return the number of items that have factors."""
        return len(self.keys)

    @property
    def n_dims(self) -> int:
        """Number of dimensions d."""
        return int(self.factors.shape[1])

    def taste_of(self, user: UserState) -> "Taste | None":
        """Return the taste that a user's answers give; None where no item answered has factors."""
        if not len(self) or not user.answers:
            return None
        short, values = read_answers(user.answers)
        place = self._short.searchsorted(short)
        there = self._short.take(place, mode="clip") == short
        rows = self._by_short.take(place[there])
        if not len(rows):
            return None
        targets, weights = targets_of(values[there])
        near, crowd = self.factors.take(rows, axis=0), self.crowd
        weighed = near * weights[:, None]
        share = np.float32(min(len(rows) / crowd.typical, 1.0))
        precision = crowd.precision + share * crowd.unseen + weighed.T @ near
        vector = np.linalg.solve(precision, targets @ weighed + crowd.precision @ crowd.mean)
        return Taste(self, vector, len(rows) / (len(rows) + USER_HALF))

    def rows_of(self, keys: Keys) -> Ints:
        """Return the row in `factors` of each item key, shape (n,)."""
        if not len(self):
            return np.zeros(len(keys), dtype=np.int64)
        place = self.keys.searchsorted(keys)
        there = self.keys.take(place, mode="clip") == keys
        return np.where(there, place, len(self.keys))

    def places_in(self, catalogue: Catalogue) -> Ints:
        """Return the catalogue index of each item with factors, -1 where it has none, (m,)."""
        rows = self.rows_of(catalogue.keys)
        there = np.flatnonzero(rows < len(self))
        places = np.full(len(self), -1)
        places[rows[there]] = there
        return places


@dataclass(frozen=True, slots=True, eq=False)
class Taste:
    """A user's taste in the factors of one generation.

    Attributes:
        factors: of the generation.
        vector: shape (d,).
        known: how much of it rests on the user's answers, in (0, 1).
    """

    factors: ItemFactors
    vector: Float32s
    known: float

    def columns(self, keys: Keys) -> tuple[Float32s, Float32s]:
        """Return how much better items match than for the mean user, and how much is known of it.

        Both are 0 for items without factors.

        Args:
            keys: shape (n,), of the items.

        Returns:
            Shape (n,) each: the first at most `MAX_MATCH` either way, the second in [0, 1).
        """
        rows = self.factors.rows_of(keys)
        matches = self.factors.factors.take(rows, axis=0) @ (self.vector - self.factors.crowd.mean)
        known = self.factors._known.take(rows)  # noqa: SLF001
        return matches.clip(-MAX_MATCH, MAX_MATCH), known * np.float32(self.known)

    def matches(self) -> Float32s:
        """Return how well each item with factors matches, shape (m,)."""
        matches: Float32s = self.factors.factors[:-1] @ self.vector
        return matches


NO_FACTORS = ItemFactors.of(
    np.zeros(0, dtype=np.uint64),
    np.zeros(0),
    np.zeros((0, 1), dtype=np.float32),
    Crowd(
        np.zeros(1, dtype=np.float32),
        np.eye(1, dtype=np.float32),
        np.zeros((1, 1), dtype=np.float32),
        1.0,
    ),
)
"""The factors before the first generation."""
