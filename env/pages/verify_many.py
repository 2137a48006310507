"""Statistical checks that the draws of many pages follow their distributions, without the seeds.

`DrawAudit` tests the probability integral transform of every draw, so pages of many policies are
judged together. `env.pages.verify` redraws single pages exactly from their seeds; seeds that are
themselves wrong, such as one seed for all pages, redraw just as well and only show here.
Derivation: `docs/decisions/draw-verification.md`.
"""

from collections.abc import Iterator

import numpy as np

from env.interface import Policy, page_pmfs
from env.pages.verify import Check, Violation
from env.vocabulary import DecisionId, Floats, Page

MAX_Z = 5.0
"""Standard errors attributed to chance: about one false alarm in two million audits."""

N_CELLS = 10
MIN_EXPECTED = 5.0
"""Least expected draws a cell, so that its count is nearly normal."""

LOG_CHANCE = float(np.log(2 / 5.7e-7))
"""The same chance of a false alarm, in the form that inequalities need."""


class DrawAudit:
    """Takes pages one by one, keeps two numbers a decision, and reports violations over all pages.

    With F the slot's cumulative distribution, a the action and W uniform, V = F(a - 1) + W p(a) is
    uniform (Smith, Journal of Forecasting 1985). Checks, each made once there are enough draws:

        fit: chi-square of V over ten cells, candidates ordered by probability; it detects draws
            that are too bold or too timid.
        independence: chi-square over ten by ten cells of V in neighbouring slots and in the first
            slots of neighbouring pages; a uniform number used twice gives the same V twice.
        weight: the mean of 1 / (propensity * candidates of positive probability) is 1, within
            Freedman's inequality (Annals of Probability 1975, theorem 1.6).
    """

    def __init__(self, seed: int = 0) -> None:
        """Start without pages; `seed` is of the auditor's own uniforms W, not of the pages."""
        self._rng = np.random.default_rng(seed)
        self._in_order: list[Floats] = []
        self._ranked: list[Floats] = []
        self._off, self._variance, self._largest = 0.0, 0.0, 0.0

    def add(self, page: Page, policy: Policy) -> None:
        """Take the next page.

        Args:
            page: not taken before; passes `env.pages.verify.audit_page` but for its seed.
            policy: in the version that the page names.
        """
        rows = []
        for d, pmf in page_pmfs(page, policy):
            w = self._rng.random()
            rows.append((_transformed(pmf, d.action, w), _transformed(*_ranked(pmf, d.action), w)))
            support = pmf[pmf > 0.0]
            self._off += 1.0 / d.propensity / len(support) - 1.0
            self._variance += max(float(np.sum(1.0 / support)) / len(support) ** 2 - 1.0, 0.0)
            steps = np.abs(1.0 / support / len(support) - 1.0)
            self._largest = max(self._largest, float(steps.max()))
        values = np.array(rows, dtype=np.float64).reshape(-1, 2)
        self._in_order.append(values[:, 0])
        self._ranked.append(values[:, 1])

    def violations(self) -> list[Violation]:
        """Return the ways in which the draws depart from their distributions."""
        if not self._in_order:
            return []
        neighbours = np.concatenate([np.stack([v[:-1], v[1:]], axis=1) for v in self._in_order])
        firsts = np.array([v[0] for v in self._in_order if v.size])
        lagged = np.stack([firsts[:-1], firsts[1:]], axis=1)
        ranked = np.concatenate(self._ranked)
        return [
            *_check_cells("fit", "draws", _cells(ranked)),
            *_check_cells("independence", "neighbouring slots", _pair_cells(neighbours)),
            *_check_cells("independence", "first slots of pages in a row", _pair_cells(lagged)),
            *self._check_weight(len(ranked)),
        ]

    def _check_weight(self, n: int) -> Iterator[Violation]:
        """The sum over decisions of 1 / p has expectation k, variance sum(1 / p_i) - k^2."""
        by_step = self._largest * LOG_CHANCE / 3.0
        allowed = by_step + float(np.sqrt(by_step**2 + 2.0 * self._variance * LOG_CHANCE))
        if abs(self._off) > allowed + n * 1e-9:  # a uniform pmf is certain but for rounding
            message = f"expected a mean weight of 1, got {1.0 + self._off / n} over {n} decisions"
            yield Violation("weight", DecisionId(""), message)


def _check_cells(check: Check, what: str, counts: Floats) -> Iterator[Violation]:
    """Pearson's chi-square against equal cells, made normal (Wilson and Hilferty, PNAS 1931)."""
    expected = counts.sum() / counts.size
    if expected < MIN_EXPECTED:
        return
    df = counts.size - 1
    ratio = float(np.sum((counts - expected) ** 2) / expected) / df
    z = (np.cbrt(ratio) - (1.0 - 2.0 / (9.0 * df))) / np.sqrt(2.0 / (9.0 * df))
    if z > MAX_Z:
        message = f"{what}: chi-square is {ratio:.2f} times its expectation, {z:.1f} s.e. too much"
        yield Violation(check, DecisionId(""), message)


def _transformed(pmf: Floats, action: int, w: float) -> float:
    return (float(pmf[:action].sum()) + w * float(pmf[action])) / float(pmf.sum())


def _ranked(pmf: Floats, action: int) -> tuple[Floats, int]:
    order = np.argsort(pmf, kind="stable")
    return pmf[order], int(np.flatnonzero(order == action)[0])


def _cells(values: Floats) -> Floats:
    return np.histogram(values, bins=N_CELLS, range=(0.0, 1.0))[0].astype(np.float64)


def _pair_cells(pairs: Floats) -> Floats:
    edges = np.linspace(0.0, 1.0, N_CELLS + 1)
    counts = np.histogram2d(pairs[:, 0], pairs[:, 1], bins=(edges, edges))[0]
    return np.asarray(counts, dtype=np.float64)
