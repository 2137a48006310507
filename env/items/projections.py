"""Projections of embeddings to content vectors: random signs at first, then learned.

A learned projection keeps the directions in which the catalogue's embeddings differ most, and those
in which users' tastes do. It is a record of the log, and each is turned so that it agrees with the
one before: interests and weights that were learned before keep their meaning. Derivation and
rejected alternatives: `docs/decisions/item-content.md`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Self

import numpy as np

from env.columns.schema import CONTENT_DIM, VECTOR_DIM
from env.records import ProjectionRecord
from env.vocabulary import Float32s, Floats, Ints

Space = Literal["vector", "title"]
"""Origin of an embedding: the caller's own vectors, or the encoder of titles."""

UNLEARNED = 1
"""Number of the encoding without a learned projection. Logs before 4 December have 0: other signs,
to half as many numbers."""

LEAST_ITEMS = 4 * CONTENT_DIM
"""Embeddings from which a projection is learned at least."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear map of the embeddings of one space to content vectors."""

    number: int  # of the encoding, from `UNLEARNED`
    weights: Floats  # (CONTENT_DIM, m)

    def halves(self) -> bytes:
        """Return the weights as a record holds them."""
        return self.weights.astype("<f2").tobytes()

    def apply(self, values: Floats) -> Floats:
        """Return the image of an embedding, shape (m,), as shape (CONTENT_DIM,)."""
        image: Floats = np.sum(self.weights * values, axis=1)  # the same bits on any machine
        return image


@dataclass(frozen=True, slots=True)
class Projections:
    """The newest projection of each space: a fold of the log's `ProjectionRecord`s."""

    learned: Mapping[str, Projection] = field(default_factory=dict)

    def after(self, record: ProjectionRecord) -> Self:
        """Return them after one more record; one that is not newer changes nothing."""
        known = self.learned.get(record.space)
        if known is not None and record.number <= known.number:
            return self
        halves = np.frombuffer(record.weights, dtype="<f2").astype(np.float64)
        projection = Projection(record.number, halves.reshape(CONTENT_DIM, -1))
        return type(self)({**self.learned, record.space: projection})

    def of(self, space: Space, length: int) -> Projection:
        """Return the projection of embeddings of this length; random signs if none was learned.

        Random signs keep distances within about 1 / sqrt(CONTENT_DIM) (Achlioptas,
        "Database-friendly random projections", JCSS 2003). Up to CONTENT_DIM numbers stay as they
        are.
        """
        known = self.learned.get(space)
        if known is not None and known.weights.shape[1] == length:
            return known
        return _unlearned(length)

    def newest(self, space: Space) -> int:
        """Return the number of a space's newest encoding."""
        known = self.learned.get(space)
        return UNLEARNED if known is None else known.number


NO_PROJECTIONS = Projections()


def learned_projection(
    embeddings: Float32s, before: Projection, *, number: int, tastes: Floats | None = None
) -> Projection:
    """Return a projection onto the directions in which items, and tastes, differ most.

    These are eigenvectors of C / tr C + T / tr T, with the second moments C of the embeddings and T
    of tastes, without the directions in which T is negative. The first `VECTOR_DIM` of them, which
    become columns, and the others are each turned to agree with the projection before, by an
    orthogonal Procrustes rotation (Schönemann, "A generalized solution of the orthogonal Procrustes
    problem", Psychometrika 1966).

    Args:
        embeddings: shape (n, m), m above `CONTENT_DIM`, each of unit length or zero.
        before: of the same length.
        number: of the new one.
        tastes: T of `second_moment_of_tastes`, shape (m, m); None: nothing is known of them.
    """
    moment = np.asarray(embeddings.T @ embeddings, dtype=np.float64)
    spread = moment / np.trace(moment)
    if tastes is not None:
        spread = spread + _share_of_tastes(tastes)
    _, vectors = np.linalg.eigh(spread)
    best = vectors[:, ::-1].T[:CONTENT_DIM]
    parts = (slice(0, VECTOR_DIM), slice(VECTOR_DIM, CONTENT_DIM))
    turned = [_turned(best[part], before.weights[part], moment) for part in parts]
    return Projection(number, np.concatenate(turned))


def second_moment_of_tastes(
    users: Ints, items: Ints, values: Floats, embeddings: Float32s
) -> Floats:
    """Return an unbiased estimate of the second moment of users' tastes, shape (m, m).

    It is the mean over users of value x embedding of one answer times that of another. Products of
    an answer with itself would add the noise of the answers, which is as large as C.

    Args:
        users: shape (k,), number of each answer's user, from 0.
        items: shape (k,), index into `embeddings`.
        values: shape (k,), each beyond the mean.
        embeddings: shape (n, m).
    """
    n_users = int(users.max(initial=-1)) + 1
    each = 1.0 / np.sqrt(np.maximum(np.bincount(users, minlength=n_users), 1.0))
    told = (values * each[users])[:, None] * embeddings[items]
    sums = np.zeros((n_users, embeddings.shape[1]))
    np.add.at(sums, users, told)
    return np.asarray(sums.T @ sums - told.T @ told)


def _share_of_tastes(tastes: Floats) -> Floats:
    """Return T / tr T without negative eigenvalues; 0 where there are no others."""
    values, vectors = np.linalg.eigh(tastes)
    kept = np.maximum(values, 0.0)
    total = float(kept.sum())
    return np.asarray((vectors * (kept / total if total > 0.0 else kept)) @ vectors.T)


def _turned(new: Floats, old: Floats, moment: Floats) -> Floats:
    """Return the rows of `new`, rotated among themselves to be nearest to those of `old`."""
    left, _, right = np.linalg.svd(old @ moment @ new.T)
    return np.asarray(left @ right @ new)


@lru_cache(maxsize=8)
def _unlearned(length: int) -> Projection:
    if length <= CONTENT_DIM:
        return Projection(UNLEARNED, np.eye(CONTENT_DIM, length))
    signs = signs_of(f"projection {length}", CONTENT_DIM * length)
    return Projection(UNLEARNED, signs.reshape(CONTENT_DIM, length) / CONTENT_DIM**0.5)


def signs_of(name: str, n: int) -> Floats:
    """Return n values of -1 or 1, the bits of an extendable hash of the name."""
    bits = np.frombuffer(hashlib.shake_256(name.encode()).digest((n + 7) // 8), dtype=np.uint8)
    return 2.0 * np.unpackbits(bits, count=n).astype(np.float64) - 1.0
