"""A batch of n MiniSwipe lives, moved by the tables of `env.miniswipe_model`.

One life and many run the same lines, and every draw is a function of the life's key and its card
(`env.draws`), so user i of a batch lives as they would alone, to the last bit.
"""

from dataclasses import dataclass

import numpy as np

from env.draws import life_keys, uniforms
from env.miniswipe_model import N_ACTIONS, N_PULSES, START, MiniModel, level_after
from env.vocabulary import Bools, Floats, Ints, Keys

CARD_LANE = 0
LEAVE_LANE = 2


@dataclass(frozen=True, slots=True)
class Swipes:
    """The outcome of one card for each user."""

    watch_s: Floats  # (n,) seconds
    left: Bools  # (n,) whether the session ended
    gap_days: Ints  # (n,) until the next session; 0 within a session and after churn
    churned: Bools  # (n,) whether it was the last session


@dataclass(slots=True)
class MiniCrowd:
    """n simulated users, each in a slot; all arrays have shape (n,)."""

    model: MiniModel
    seeds: Ints
    lives: Ints  # number of the life in its slot, from 0
    keys: Keys
    state: Ints  # in [0, 336)
    day: Ints  # of the life
    cards: Ints  # swiped in the life

    @classmethod
    def born(cls, model: MiniModel, seeds: Ints) -> "MiniCrowd":
        """Return the first life of each slot."""
        none = np.zeros(len(seeds), dtype=np.int64)
        return cls(
            model=model,
            seeds=seeds,
            lives=none.copy(),
            keys=life_keys(seeds, none),
            state=np.full(len(seeds), START),
            day=none.copy(),
            cards=none.copy(),
        )

    def renew(self, who: Ints) -> None:
        """Start the next life of these slots."""
        self.lives[who] += 1
        self.keys[who] = life_keys(self.seeds[who], self.lives[who])
        self.state[who], self.day[who], self.cards[who] = START, 0, 0

    def swipe(self, actions: Ints) -> Swipes:
        """Show each user one card; returning users are then at the start of their next session."""
        self.cards += 1
        row = self.state * N_ACTIONS + actions
        moves, bores, leaves = uniforms(self.keys, self.cards, CARD_LANE, 3)
        model = self.model
        level = level_after(
            self.state // N_PULSES,
            model.direction[actions],
            (moves < model.move.take(row)).astype(np.int64),
            (bores < model.bored.take(row)).astype(np.int64),
        )
        left = leaves < model.exit.take(row)
        self.state = level * N_PULSES + model.pulse.take(row)
        gap_days, churned = np.zeros(len(row), dtype=np.int64), np.zeros(len(row), dtype=np.bool_)
        who = np.flatnonzero(left)
        gap_days[who], churned[who] = self._stay_away(who, level[who])
        return Swipes(model.watch_s.take(row), left, gap_days, churned)

    def _stay_away(self, who: Ints, level: Ints) -> tuple[Ints, Bools]:
        goes, waits, rests = uniforms(self.keys[who], self.cards[who], LEAVE_LANE, 3)
        model = self.model
        churned: Bools = goes < model.churn[level]
        # The inverse CDF of the geometric distribution on 1, 2, ..; a return chance of 1 divides by
        # an infinite logarithm and gives 1 day, as it should.
        with np.errstate(divide="ignore"):
            days = 1 + np.floor(np.log1p(-waits) / np.log1p(-model.comeback[level]))
        rested = np.where(rests < model.constants.relax, model.inward[level], level)
        gap_days = np.where(churned, 0, days.astype(np.int64))
        self.state[who] = np.where(churned, self.state[who], rested * N_PULSES)
        self.day[who] += gap_days
        return gap_days, churned
