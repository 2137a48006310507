"""Worlds of single decisions whose every expectation is a finite sum, to judge intervals by.

People are drawn from 512 kinds, each a context of 8 dimensions, and choose from 20 actions, four
times each, so that a person's decisions depend on each other. The answer is an event (a valid
play: every other card; a like: one in forty) or its amount (a share of the clip: 0 without the
event, else spread over (0, 1)). The truth is the mean over kinds and actions, without a draw.

Logging probabilities are multiples of 1/1024, so that drawing by table is exact, and the logged
propensity is the frequency that it claims to be.
"""

from typing import Literal, NamedTuple

import numpy as np

from env.vocabulary import Floats, Ints

Signal = Literal["valid", "like"]
Distance = Literal["mild", "strong"]
Scale = Literal["event", "amount"]

KINDS, ACTIONS, DIMS = 512, 20, 8
DECISIONS = 4
"""Of each person."""
SEGMENTS = 8
"""Groups of kinds that the reward model can tell apart: it knows less than the world."""
_TICKS = 1024
_FLOOR = 0.1
_BASES = {"valid": -0.2, "like": -4.2}
_SHARPNESS = {"mild": 2.2, "strong": 4.5}


class Log(NamedTuple):
    """What was drawn, one row a decision."""

    user: Ints  # (n,)
    kind: Ints  # (n,) below KINDS
    action: Ints  # (n,) below ACTIONS
    cell: Ints  # (n,) kind * ACTIONS + action
    event: Floats  # (n,) 0 or 1
    amount: Floats  # (n,) in [0, 1]

    def reward(self, scale: Scale) -> Floats:
        """Return the rewards on one of the two scales, shape (n,)."""
        return self.event if scale == "event" else self.amount


class World:
    """Kinds of people, actions, a logging and a target policy, and what there is to earn."""

    def __init__(self, signal: Signal, distance: Distance, seed: int) -> None:
        """Draw a world; the seed decides tastes, not the distance of the policies."""
        rng = np.random.default_rng(seed)
        contexts = rng.normal(size=(KINDS, DIMS))
        taste = contexts @ rng.normal(size=(DIMS, ACTIONS)) / np.sqrt(DIMS)
        liking = 0.7 * taste + 0.5 * rng.normal(size=ACTIONS)
        misjudged = 0.5 * (liking + rng.normal(size=liking.shape))
        self.chance = 1.0 / (1.0 + np.exp(-(_BASES[signal] + liking)))  # (KINDS, ACTIONS)
        self.largest = rng.uniform(0.5, 1.0, size=ACTIONS)  # amount of an event
        self.segment = _segments(contexts)  # (KINDS,)
        ticks = _rounded((1.0 - _FLOOR) * _softmax(misjudged) + _FLOOR / ACTIONS)
        self._draws = np.repeat(np.tile(np.arange(ACTIONS, dtype=np.int8), KINDS), ticks.ravel())
        self.logging = ticks / _TICKS  # (KINDS, ACTIONS)
        self.target = _softmax(_SHARPNESS[distance] * liking)  # (KINDS, ACTIONS)

    def truth(self, scale: Scale) -> float:
        """Return what the target policy earns a decision."""
        mean = self.chance if scale == "event" else self.chance * self.largest / 2.0
        return float((self.target * mean).sum(axis=1).mean())

    @property
    def ess_share(self) -> float:
        """The effective sample size of an endless log, as a share of its decisions."""
        return 1.0 / float((self.target**2 / self.logging).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator, n: int) -> Log:
        """Return a log of n decisions, n a multiple of DECISIONS.

        Given an event, its amount is uniform up to the action's largest.
        """
        n_users = n // DECISIONS
        kind = np.repeat(rng.integers(KINDS, size=n_users), DECISIONS)
        action = self._draws.take(kind * _TICKS + rng.integers(_TICKS, size=n)).astype(np.int64)
        cell = kind * ACTIONS + action
        share = rng.random(n) / self.chance.take(cell)  # uniform in (0, 1) where it happened
        event = (share < 1.0).astype(np.float64)
        amount = event * self.largest.take(action) * share
        user = np.repeat(np.arange(n_users), DECISIONS)
        return Log(user, kind, action, cell, event, amount)


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _rounded(pmfs: Floats) -> Ints:
    """Return pmfs in ticks, at least one each, shape as given; the most likely takes the rest."""
    ticks = np.maximum(np.floor(pmfs * _TICKS), 1.0).astype(np.int64)
    ticks[np.arange(len(ticks)), pmfs.argmax(axis=1)] += _TICKS - ticks.sum(axis=1)
    return ticks


def _segments(contexts: Floats) -> Ints:
    """Return a group of each kind by the signs of its first dimensions, shape (KINDS,)."""
    bits = int(np.log2(SEGMENTS))
    return np.asarray((contexts[:, :bits] > 0.0) @ (1 << np.arange(bits)), dtype=np.int64)
