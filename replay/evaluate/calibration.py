"""Tests of whether logged draws match their propensities, and arms their planned sizes.

A known distribution is tested by its randomised probability integral transform, a propensity alone
by the weight of the exploration floor. Both tests use every draw of a page, seen or not, because a
missing response can depend on the card. Formulas and reasons: `docs/decisions/evaluation-gates.md`.
"""

from statistics import NormalDist

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats
from replay.source import Draws

N_CELLS = 20
N_PARTS = 4
MIN_EXPECTED = 5.0
"""Expected draws that a cell needs for its count to be nearly normal."""

MIN_EFFECTIVE = 100.0
"""Effective draws that the floor test needs for its sums to be nearly normal."""


class Calibration(msgspec.Struct, frozen=True):
    """The result of testing logged propensities against the logged draws.

    A propensity's error is relative to the one that its policy gives when asked again.
    """

    method: str  # "pit" (cells of V) or "floor" (its weight in parts of the list)
    n: int  # draws tested
    observed: tuple[float, ...]  # observed over expected amount, by cell or part
    p_value: float  # of the chi-square test that all ratios are 1
    max_error: float = 0.0  # largest relative error; 0 where nothing could be compared


class CalibrationTest:
    """Accumulates draws batch by batch and tests them all."""

    def __init__(self, seed: int = 0) -> None:
        """Start without a draw.

        Args:
            seed: seed of the uniforms W.
        """
        self._rng = np.random.default_rng(seed)
        self._cells = np.zeros(N_CELLS)
        self._max_error = 0.0
        self._n, self._sums, self._products = 0, np.zeros(N_PARTS), np.zeros((N_PARTS, N_PARTS))
        self._shares, self._weight, self._squares = np.zeros(N_PARTS), 0.0, 0.0

    def add(self, draws: Draws) -> None:
        """Add a batch's draws, both those with a known distribution and those without."""
        known: Bools = np.zeros(len(draws.action), dtype=np.bool_)
        if draws.pmf is not None:
            known = np.asarray(np.isfinite(draws.pmf).all(axis=1))
            self._add_known(draws.pmf[known], draws, known)
        self._add_floor(draws, ~known & draws.eligible.any(axis=1))

    def result(self) -> Calibration | None:
        """Return the result of the test that has more draws, or None if neither has enough."""
        n = int(self._cells.sum())
        by_floor = self._squares > 0.0 and self._weight**2 / self._squares >= MIN_EFFECTIVE
        if n >= N_CELLS * MIN_EXPECTED and (n >= self._n or not by_floor):
            expected = n / N_CELLS
            chi_square = float(((self._cells - expected) ** 2).sum() / expected)
            observed = tuple((self._cells / expected).tolist())
            p_value = chi_square_tail(chi_square, N_CELLS - 1)
            return Calibration("pit", n, observed, p_value, self._max_error)
        if not by_floor:
            return None
        chi_square, dof = _standardised(self._sums, self._products)
        observed = tuple(((self._sums + self._shares) / np.maximum(self._shares, 1e-300)).tolist())
        p_value = chi_square_tail(chi_square, dof)
        return Calibration("floor", self._n, observed, p_value, self._max_error)

    def _add_known(self, pmf: Floats, draws: Draws, known: Bools) -> None:
        if not len(pmf):
            return
        rows, action = np.arange(len(pmf)), draws.action[known]
        order = np.argsort(pmf, axis=1, kind="stable")
        place = np.argmax(order == action[:, None], axis=1)
        cdf = np.cumsum(np.take_along_axis(pmf, order, axis=1), axis=1)
        chosen = pmf[rows, action]
        value = cdf[rows, place] - chosen + self._rng.random(len(pmf)) * chosen
        cell = np.minimum((value / cdf[:, -1] * N_CELLS).astype(np.int64), N_CELLS - 1)
        self._cells += np.bincount(cell, minlength=N_CELLS)
        errors = np.abs(chosen - draws.propensity[known]) / draws.propensity[known]
        self._max_error = max(self._max_error, float(errors.max()))

    def _add_floor(self, draws: Draws, rows: Bools) -> None:
        eligible, action = draws.eligible[rows], draws.action[rows]
        if not len(action):
            return
        count = eligible.sum(axis=1, dtype=np.int64)
        rank = np.cumsum(eligible, axis=1) - 1  # among the eligible, in the order of the list
        part = np.minimum(rank * N_PARTS // count[:, None], N_PARTS - 1)
        shares = np.stack([(eligible & (part == i)).sum(axis=1) for i in range(N_PARTS)], axis=1)
        shares = shares / count[:, None]
        at = np.arange(len(action)), action
        weight = np.where(eligible[at], 1.0 / count / draws.propensity[rows], 0.0)
        off = -shares
        off[np.arange(len(action)), part[at]] += weight
        self._n += len(action)
        self._sums += off.sum(axis=0)
        self._products += off.T @ off
        self._shares += shares.sum(axis=0)
        self._weight += float(weight.sum())
        self._squares += float((weight**2).sum())


class ArmSizes(msgspec.Struct, frozen=True):
    """The sizes of an experiment's arms, with Pearson's chi-square test of their shares.

    Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.
    """

    users: dict[str, int]  # users by arm
    expected: dict[str, float]  # expected users by arm, of the same total
    p_value: float  # that the differences are chance


def compare_arm_sizes(users: dict[str, int], shares: dict[str, float]) -> ArmSizes | None:
    """Return the test of the arms' sizes, or None if there is nothing to compare.

    Args:
        users: users by arm.
        shares: planned share by arm, relative to their sum; arms without one are ignored.
    """
    counts = {name: users.get(name, 0) for name in shares}
    total = sum(counts.values())
    expected = {name: total * share / sum(shares.values()) for name, share in shares.items()}
    if len(shares) < 2 or min(expected.values()) < MIN_EXPECTED:
        return None
    chi_square = sum((counts[name] - e) ** 2 / e for name, e in expected.items())
    return ArmSizes(counts, expected, chi_square_tail(chi_square, len(shares) - 1))


def chi_square_tail(value: float, dof: int) -> float:
    """Return the probability of a chi-square of at least this value.

    Approximation of Wilson and Hilferty (PNAS 1931), within a few percent down to 1e-6.

    >>> round(chi_square_tail(18.307, 10), 3)
    0.05
    """
    if dof < 1:
        return 1.0
    spread = 2.0 / (9.0 * dof)
    z = (float(np.cbrt(value / dof)) - (1.0 - spread)) / spread**0.5
    return NormalDist().cdf(-z)


def _standardised(sums: Floats, products: Floats) -> tuple[float, int]:
    """Return the chi-square of sums of independent differences, and its degrees of freedom."""
    values, vectors = np.linalg.eigh(products)
    kept = values > 1e-9 * max(float(values.max()), 1e-300)
    turned = vectors[:, kept].T @ sums
    return float((turned**2 / values[kept]).sum()), int(kept.sum())
