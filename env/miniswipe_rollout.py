"""MiniSwipe's people under a policy, by Monte Carlo through the environment itself.

One life a person, until they churn or the horizon ends; returns are added up with the discounts of
`info`, as a learner has to. Standard errors are across people, who are independent; cards are not.
"""

from dataclasses import dataclass

import numpy as np

from env.miniswipe_calendar import LATE_DAYS, RETENTION_DAYS, Habits
from env.miniswipe_model import MiniConstants
from env.miniswipe_vector import MiniSwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints

_POLICY_STREAM = 1
"""Told apart from the seeds of lives, so that what a policy draws does not hang on theirs."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What each of n people did until the horizon.

    Attributes:
        watch: seconds, each discounted to the first day, shape (n,).
        days: returns, each discounted to the first day, shape (n,).
        swipes: cards, shape (n,).
        watched_s: seconds, shape (n,).
        gaps: returns, those beyond the horizon included, shape (n,).
        gap_days: days until them, in sum, shape (n,).
        active: whether there was a session on a day, shape (n, n_days).
    """

    watch: Floats
    days: Floats
    swipes: Ints
    watched_s: Floats
    gaps: Ints
    gap_days: Ints
    active: Bools

    def habits(self) -> Habits:
        """Return the means of what they did."""
        on_day = self.active.mean(axis=0)
        first, seventh, thirtieth = (float(on_day[day]) for day in RETENTION_DAYS)
        return Habits(
            session_swipes=float(self.swipes.sum() / self.active.sum()),
            swipe_s=float(self.watched_s.sum() / self.swipes.sum()),
            gap_days=float(self.gap_days.sum() / self.gaps.sum()),
            active_days=float(self.active.sum(axis=1).mean()),
            retention=(first, seventh, thirtieth),
            daily_active=float(on_day[-LATE_DAYS:].mean()),
            watch=float(self.watch.mean()),
            days=float(self.days.mean()),
        )


def roll_out(
    policy: Floats, n_people: int, n_days: int, seed: int, constants: MiniConstants | None = None
) -> Rollout:
    """Return what n people do under a policy: same arguments, same bits.

    Args:
        policy: a pmf over the actions for each state, shape (336, 4).
        n_people: each with a life of their own.
        n_days: horizon, more than 30 for `Rollout.habits`.
        seed: of the lives and of the policy's draws.
        constants: MiniSwipe's own where None.
    """
    env = MiniSwipeVectorEnv(n_people, obs="ids", horizon_days=n_days, constants=constants)
    generator = np.random.default_rng([seed, _POLICY_STREAM])
    upto = policy.cumsum(axis=1)[:, :-1]
    state, info = env.reset(seed=seed)
    rollout = _empty(n_people, n_days)
    alive, discount = np.ones(n_people, dtype=np.bool_), np.ones(n_people)
    while alive.any():
        here = np.flatnonzero(alive)
        rollout.active[here, info["day"][here]] = True
        actions = (generator.random(n_people)[:, None] >= upto[state]).sum(axis=1)
        state, _, terminated, truncated, info = env.step(actions)
        _add(rollout, here, info, discount)
        discount *= info["discount"]
        alive &= ~(terminated | truncated)
    return rollout


def _empty(n_people: int, n_days: int) -> Rollout:
    def zeros() -> Floats:
        return np.zeros(n_people)

    def none() -> Ints:
        return np.zeros(n_people, dtype=np.int64)

    active = np.zeros((n_people, n_days), dtype=np.bool_)
    return Rollout(zeros(), zeros(), none(), zeros(), none(), none(), active)


def _add(rollout: Rollout, here: Ints, info: dict[str, Floats], discount: Floats) -> None:
    rollout.watch[here] += discount[here] * info["watch_s"][here]
    rollout.days[here] += discount[here] * info["days"][here]
    rollout.swipes[here] += 1
    rollout.watched_s[here] += info["watch_s"][here]
    rollout.gaps[here] += info["gap_days"][here] > 0
    rollout.gap_days[here] += info["gap_days"][here].astype(np.int64)
