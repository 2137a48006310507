"""The fit of coordinates of apps, systems and models: latent semantic analysis of users' lists.

A name weighs ln(users / users who have it), so one that all have says nothing (tf-idf: Sparck
Jones, Journal of Documentation 1972). The directions are the leading right singular vectors of the
weighed lists (Deerwester et al., JASIS 1990), found by subspace iteration (Halko, Martinsson and
Tropp, SIAM Review 2011) and turned onto those of the generation before (Schonemann, Psychometrika
1966). Rejected alternatives: `docs/decisions/cohorts.md`.
"""

import numpy as np

from env.columns.schema import N_APPS
from env.features.apps import NO_APPS, AppSpace
from env.vocabulary import Floats, Ints, Keys
from policies.collaborative.users import LEAST_USERS, Devices

MAX_NAMES = 8_192
"""Names that are learned, the most common ones that do say something."""

_WIDTH = 32
"""Singular vectors that are looked for; those left out tell how large chance alone makes them."""

_ROUNDS = 8
_BLOCK = 1 << 16


def fit_apps(devices: Devices, before: AppSpace = NO_APPS) -> AppSpace:
    """Return the coordinates of the names that `LEAST_USERS` have; equal inputs give equal ones.

    Args:
        devices: of all users.
        before: the generation before, whose directions are kept as far as the names allow.
    """
    counts = np.bincount(devices.names, minlength=len(devices.keys))
    kept = _common(counts, devices.n_users)
    if not len(kept):
        return NO_APPS
    weights = np.log(devices.n_users / counts[kept])
    number = np.full(len(counts), -1)
    number[kept] = np.arange(len(kept))
    used = np.flatnonzero(number[devices.names] >= 0)
    lists = _Lists.of(devices.users[used], number[devices.names[used]], weights)
    keys, coordinates = devices.keys[kept], weights[:, None] * _directions(lists)
    turned = np.einsum("ij,jk->ik", coordinates, _turn(keys, coordinates, before))
    return AppSpace.of(keys, weights, turned.astype(np.float32))


def _common(counts: Ints, n_users: int) -> Ints:
    """Return the names that are learned, ascending."""
    tells = np.flatnonzero((counts >= LEAST_USERS) & (counts < n_users))
    order = np.argsort(-counts[tells], kind="stable")[:MAX_NAMES]
    return np.sort(tells[order])


class _Lists:
    """The users' lists as a sparse matrix with rows of unit length, by user and by name."""

    def __init__(self, users: Ints, names: Ints, values: Floats, shape: tuple[int, int]) -> None:
        by_name = np.lexsort((users, names))
        self.shape = shape
        self._by_user = users, names, values
        self._by_name = names[by_name], users[by_name], values[by_name]

    @classmethod
    def of(cls, users: Ints, names: Ints, weights: Floats) -> "_Lists":
        owners, number = np.unique(users, return_inverse=True)
        squares = np.bincount(number, weights[names] ** 2)
        values = weights[names] / np.sqrt(squares)[number]
        return cls(number, names, values, (len(owners), len(weights)))

    def times(self, columns: Floats) -> Floats:
        """Return the product with columns, (m, k) to (n, k)."""
        return _product(*self._by_user, columns, self.shape[0])

    def transposed_times(self, columns: Floats) -> Floats:
        """Return the product of the transpose with columns, (n, k) to (m, k)."""
        return _product(*self._by_name, columns, self.shape[1])


def _product(rows: Ints, others: Ints, values: Floats, columns: Floats, n: int) -> Floats:
    """Return sums of value x column by row, which ascends; a block at a time, to bound memory."""
    summed = np.zeros((n, columns.shape[1]))
    for first in range(0, len(rows), _BLOCK):
        part = slice(first, first + _BLOCK)
        begins = np.flatnonzero(np.diff(rows[part], prepend=-1))
        weighed = columns.take(others[part], axis=0) * values[part, None]
        summed[rows[part][begins]] += np.add.reduceat(weighed, begins, axis=0)
    return summed


def _directions(lists: _Lists) -> Floats:
    """Return the leading right singular vectors as columns, (m, N_APPS), faded by noise.

    A vector of singular value s is multiplied by 1 - (noise / s)^2, with the median of the values
    left out as the noise. So directions in which users
    differ by chance alone do not count, and where there are fewer than N_APPS, the others are 0.
    """
    n, m = lists.shape
    width = min(_WIDTH, n, m)
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((m, width)))[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(lists.transposed_times(lists.times(basis)))[0]
    spread = lists.times(basis)
    squares, vectors = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))  # ascending
    noise = max(float(np.median(squares[:-N_APPS])) if width > N_APPS else 0.0, 1e-9)
    leading = np.arange(width)[::-1][:N_APPS]
    shares = 1.0 - noise / np.maximum(squares[leading], noise)
    found = (basis @ vectors[:, leading]) * shares
    highest = found[np.abs(found).argmax(axis=0), np.arange(len(leading))]
    directions = np.zeros((m, N_APPS))
    directions[:, : len(leading)] = found * np.where(highest < 0.0, -1.0, 1.0)
    return directions


def _turn(keys: Keys, coordinates: Floats, before: AppSpace) -> Floats:
    """Return the rotation (N_APPS, N_APPS) that brings names nearest to where they were."""
    _, here, there = np.intersect1d(keys, before.keys, assume_unique=True, return_indices=True)
    if not len(here):
        return np.eye(N_APPS)
    cross = np.einsum("ni,nj->ij", coordinates[here], before.coordinates[there].astype(np.float64))
    left, _, right = np.linalg.svd(cross)
    return np.asarray(left @ right, dtype=np.float64)
