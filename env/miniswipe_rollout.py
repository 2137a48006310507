"""Monte Carlo rollouts of MiniSwipe policies through the environment itself.

Each user lives one life until churn or the horizon, and returns are summed with the discounts of
`info`, as a learner has to. Standard errors are across users, who are independent; cards are not.
"""

from dataclasses import dataclass

import numpy as np

from env.miniswipe_calendar import LATE_DAYS, RETENTION_DAYS, Habits
from env.miniswipe_model import MiniConstants
from env.miniswipe_vector import MiniSwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints

_POLICY_STREAM = 1
"""Separate from the seeds of lives, so that the policy's draws do not depend on them."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The outcome of each of n users until the horizon."""

    watch: Floats  # (n,) seconds, each discounted to the first day
    days: Floats  # (n,) returns, each discounted to the first day
    swipes: Ints  # (n,) cards
    watched_s: Floats  # (n,) seconds
    gaps: Ints  # (n,) returns, those beyond the horizon included
    gap_days: Ints  # (n,) days until them, in sum
    active: Bools  # (n, n_days) whether there was a session on a day

    def habits(self) -> Habits:
        """Return the means over users."""
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
    """Return the outcome of n users under a policy; the same arguments give the same bits.

    `policy` is a pmf over the actions for each state, shape (336, 4); `n_days` is the horizon, more
    than 30 for `Rollout.habits`.
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
