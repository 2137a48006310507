"""Blocks of a logistic mixed model: each moves its coefficients by one penalised Newton step.

A block solves a ridge regression of its working response, with its prior variances as the ridge; EM
moves the variances. Users with few rows, nearly all of an imported log, are solved in the dual.

Formulas: `docs/decisions/world-fitting.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from env.vocabulary import Floats, Ints


class Block(Protocol):
    """A part of the log-odds with its own coefficients."""

    def move(self, w: Floats, z: Floats) -> Floats:
        """Move the coefficients, given weights and working response; return the part, (n,)."""
        ...


@dataclass
class CommonBlock:
    """Coefficients shared by all rows, under a fixed normal prior."""

    design: Floats  # (n, k)
    prior_sd: Floats  # (k,)
    beta: Floats = field(init=False)  # (k,)

    def __post_init__(self) -> None:
        self.beta = np.zeros(self.design.shape[1], dtype=np.float64)

    def move(self, w: Floats, z: Floats) -> Floats:
        """Solve for the coefficients and return their part of eta, shape (n,)."""
        weighted = self.design.T * w
        precision = weighted @ self.design + np.diag(1.0 / self.prior_sd**2)
        self.beta = np.asarray(np.linalg.solve(precision, weighted @ z), dtype=np.float64)
        return self.design @ self.beta


@dataclass
class GroupBlock:
    """A vector of coefficients for each of few groups: normal around 0, two variances."""

    design: Floats  # (n, k), the first column constant
    group: Ints  # (n,)
    n_groups: int
    sd: Floats  # (k,)
    beta: Floats = field(init=False)  # (n_groups, k)

    def __post_init__(self) -> None:
        self.beta = np.zeros((self.n_groups, self.design.shape[1]))

    def move(self, w: Floats, z: Floats) -> Floats:
        """Solve group by group, move the variances, return the part of eta, shape (n,)."""
        part = np.zeros(len(z))
        second = np.zeros((self.n_groups, len(self.sd)))
        for k in range(self.n_groups):
            rows = np.flatnonzero(self.group == k)
            design = self.design[rows]
            weighted = design.T * w[rows]
            covariance = np.linalg.inv(weighted @ design + np.diag(1.0 / self.sd**2))
            self.beta[k] = covariance @ (weighted @ z[rows])
            second[k] = self.beta[k] ** 2 + np.diag(covariance)
            part[rows] = design @ self.beta[k]
        self.sd = np.sqrt(
            np.r_[second[:, 0].mean(), np.full(len(self.sd) - 1, second[:, 1:].mean())]
        )
        return part


@dataclass
class UnitBlock:
    """One number for each of many units: normal around 0 with one variance."""

    unit: Ints  # (n,)
    n_units: int
    sd: float
    effect: Floats = field(init=False)  # (n_units,)
    effect_sd: Floats = field(init=False)  # (n_units,)

    def __post_init__(self) -> None:
        self.effect = np.zeros(self.n_units)
        self.effect_sd = np.full(self.n_units, self.sd)

    def move(self, w: Floats, z: Floats) -> Floats:
        """Shrink unit by unit, move the variance, return the part of eta, shape (n,)."""
        precision = np.bincount(self.unit, w, self.n_units) + 1.0 / self.sd**2
        self.effect = np.bincount(self.unit, w * z, self.n_units) / precision
        self.effect_sd = 1.0 / np.sqrt(precision)
        self.sd = float(np.sqrt(np.mean(self.effect**2 + self.effect_sd**2)))
        return self.effect[self.unit]


@dataclass
class PersonBlock:
    """A lean and a taste for each user; only the lean's variance is moved."""

    vectors: Floats  # (n, d)
    user: Ints  # (n,) ascending
    lean_sd: float
    taste_sd: float

    def move(self, w: Floats, z: Floats) -> Floats:
        """Solve user by user, move the lean's variance, return the part of eta, shape (n,).

        With K = lean_sd² + taste_sd² V V' over a user's rows, the part is K (K + 1/W)^-1 z. With
        more rows than coefficients, it is solved for the coefficients instead.
        """
        part = np.zeros(len(z))
        lean, second, n_users = self.lean_sd**2, 0.0, 0
        for rows in self._users_by_n_rows():
            few = rows.shape[1] <= self.vectors.shape[1]
            solve = self._solve_dual if few else self._solve_primal
            part[rows], squares = solve(rows, w[rows], z[rows])
            second += float(np.sum(squares)) - lean * len(rows)
            n_users += len(rows)
        self.lean_sd = float(np.sqrt(max(lean + second / n_users, 1e-4)))
        return part

    def _solve_dual(self, rows: Ints, w: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Return parts and expected squares of leans of users with these rows, (p, r) and (p,)."""
        lean, v = self.lean_sd**2, self.vectors[rows]
        kernel = lean + self.taste_sd**2 * (v @ v.transpose(0, 2, 1))
        inverse = np.linalg.inv(kernel + np.eye(rows.shape[1]) / w[:, None, :])
        dual = np.einsum("pij,pj->pi", inverse, z)
        squares = (lean * dual.sum(1)) ** 2 + lean - lean**2 * inverse.sum((1, 2))
        return np.einsum("pij,pj->pi", kernel, dual), squares

    def _solve_primal(self, rows: Ints, w: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Return the same for many rows, by inverting a (1 + d) x (1 + d) matrix."""
        v = self.vectors[rows]
        x = np.concatenate([np.ones((*rows.shape, 1)), v], axis=2)
        prior = np.r_[self.lean_sd, np.full(v.shape[2], self.taste_sd)] ** 2
        weighted = x * w[:, :, None]
        covariance = np.linalg.inv(weighted.transpose(0, 2, 1) @ x + np.diag(1.0 / prior))
        effect = np.einsum("pij,prj,pr->pi", covariance, weighted, z, optimize=True)
        part = np.einsum("prj,pj->pr", x, effect)
        return part, np.asarray(effect[:, 0] ** 2 + covariance[:, 0, 0])

    def _users_by_n_rows(self) -> Iterator[Ints]:
        _, starts, n_rows = np.unique(self.user, return_index=True, return_counts=True)
        for n in np.unique(n_rows):
            yield starts[n_rows == n][:, None] + np.arange(n)
