"""Worlds of a small catalogue with rare clicks, to tune on: one click in 100 to 300 impressions.

Items differ in how often they are clicked (a log-normal factor), so do the three positions of the
page; people do not. One policy is uniform; the other is a Thompson sampler that has seen hundreds
to thousands of impressions of each item, and shows a few most of the time and some next to never.
Each can be the log's or the target. The truth is a finite sum.
"""

from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats, Ints
from replay.columns import Columns, Predictions
from replay.shrunk_means import cross_fitted_predictions

POSITIONS = 3
_DRAWS = 50_000


class Impressions(NamedTuple):
    """What was drawn, one row an impression."""

    position: Ints  # (n,)
    item: Ints  # (n,)
    click: Floats  # (n,) 0 or 1


class CatalogueWorld:
    """Items, positions and their click rates; the sampler logs, or the uniform policy does."""

    def __init__(self, n_items: int, click_rate: float, sampler_logs: bool, seed: int) -> None:
        """Draw a world."""
        rng = np.random.default_rng(seed)
        factor = np.exp(0.4 * rng.normal(size=n_items) - 0.08)
        place = np.array([1.2, 1.0, 0.8])
        self.chance = click_rate * place[:, np.newaxis] * factor  # (POSITIONS, n_items)
        sampler, uniform = _thompson(click_rate * factor, rng), np.full(n_items, 1.0 / n_items)
        self.logging: Floats = sampler if sampler_logs else uniform  # (n_items,)
        self.target: Floats = uniform if sampler_logs else sampler  # (n_items,)

    @property
    def truth(self) -> float:
        """What the target earns an impression."""
        return float((self.chance @ self.target).mean())

    @property
    def ess_share(self) -> float:
        """The effective sample size of an endless log, as a share of its impressions."""
        return 1.0 / float((self.target**2 / self.logging).sum())

    def draw(self, rng: np.random.Generator, n: int) -> Impressions:
        """Return a log of n impressions, each of another person."""
        position = rng.integers(POSITIONS, size=n)
        item = rng.choice(len(self.logging), size=n, p=self.logging)
        click = (rng.random(n) < self.chance[position, item]).astype(np.float64)
        return Impressions(position, item, click)

    def columns(self, log: Impressions) -> tuple[Columns, Predictions]:
        """Return a log as an estimator reads it, with what cross-fitted shrunk means say."""
        user = np.arange(len(log.click))
        target = np.broadcast_to(self.target, (len(user), len(self.target)))
        columns = Columns(user, log.click, self.logging[log.item], self.target[log.item])
        return columns, cross_fitted_predictions(user, log.position, log.item, log.click, target)


def _thompson(rate: Floats, rng: np.random.Generator) -> Floats:
    """Return how often each item is the best of a draw from what was learned of all."""
    shown = np.exp(rng.uniform(np.log(3e2), np.log(3e3), size=len(rate)))
    clicks = rng.binomial(shown.astype(np.int64), rate)
    best = rng.beta(1.0 + clicks, 1.0 + shown - clicks, size=(_DRAWS, len(rate))).argmax(axis=1)
    counts = np.bincount(best, minlength=len(rate)) + 0.5  # never never: what is logged has support
    return np.asarray(counts / counts.sum())
