"""MiniSwipe's people: n lives at once, moved by the tables of `env.miniswipe_model`.

One and many run the same lines, and every draw is a function of the life's key and its card
(`env.draws`), so person i of a crowd lives as they would alone, to the last bit.
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
    """What one card each did.

    Attributes:
        watch_s: seconds, shape (n,).
        left: whether the session ended, shape (n,).
        gap_days: until the next one; 0 within a session and where nobody returns, shape (n,).
        churned: whether it was the last one, shape (n,).
    """

    watch_s: Floats
    left: Bools
    gap_days: Ints
    churned: Bools


@dataclass(slots=True)
class MiniCrowd:
    """n people, each in their slot.

    Attributes:
        model: what they follow.
        seeds: of the slots, shape (n,).
        lives: number of the life in its slot, from 0, shape (n,).
        keys: of the lives, shape (n,).
        state: shape (n,) in [0, 336).
        day: of the life, shape (n,).
        cards: swiped in the life, shape (n,).
    """

    model: MiniModel
    seeds: Ints
    lives: Ints
    keys: Keys
    state: Ints
    day: Ints
    cards: Ints

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
        """Let the next life of these slots begin."""
        self.lives[who] += 1
        self.keys[who] = life_keys(self.seeds[who], self.lives[who])
        self.state[who], self.day[who], self.cards[who] = START, 0, 0

    def swipe(self, actions: Ints) -> Swipes:
        """Show everybody one card; who leaves and returns is at the start of that session after it.

        Args:
            actions: shape (n,) in [0, 4).
        """
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
