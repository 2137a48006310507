"""The exact expectation of a policy's effect on users over a finite number of days.

`env.miniswipe_programme` solves for values without a horizon; this module follows the chance of a
session on each day. It gives the expectation of every Monte Carlo measure up to a horizon:
retention, active days, sessions and values.

Recursion, and the comparison with published runs: `docs/decisions/twin-habits.md`.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env.miniswipe_model import MIDDLE, N_LEVELS, N_PULSES, N_STATES
from env.miniswipe_programme import Programme
from env.vocabulary import Floats

RETENTION_DAYS = (1, 7, 30)
LATE_DAYS = 10


class Habits(msgspec.Struct, frozen=True):
    """Expected behaviour of users under a policy until a horizon."""

    session_swipes: float  # cards a session
    swipe_s: float  # seconds a card
    gap_days: float  # mean days from a session to the next one
    active_days: float  # days with a session, the first included
    retention: tuple[float, float, float]  # share of users with a session on day 1, 7 and 30
    daily_active: float  # share of users with a session on a day, over the last ten days
    watch: float  # seconds, each discounted to the first day
    days: float  # returns, each discounted to the first day


@dataclass(frozen=True, slots=True)
class Sessions:
    """Expectations of one session by the level at its start."""

    swipes: Floats  # (21,)
    watch_s: Floats  # (21,)
    ends: Floats  # (21, 21) chance of each level at the end

    @classmethod
    def of(cls, programme: Programme, policy: Floats) -> "Sessions":
        """Return the sessions under a policy, a pmf of shape (336, 4)."""
        stay = np.einsum("xa,xay->xy", policy, programme.stay)
        gains = np.column_stack(
            [
                np.ones(N_STATES),
                (policy * programme.model.watch_s).sum(axis=1),
                np.einsum("xa,xal->xl", policy, programme.leave),
            ]
        )
        solved = np.linalg.solve(np.eye(N_STATES) - stay, gains)[::N_PULSES]
        return cls(swipes=solved[:, 0], watch_s=solved[:, 1], ends=solved[:, 2:])


def expect_habits(
    programme: Programme, policy: Floats, n_days: int, start_level: int = MIDDLE
) -> Habits:
    """Return the expected behaviour of users under a policy over more than 30 days.

    `policy` is a pmf over the actions for each state, shape (336, 4); `start_level` is the
    satisfaction at the start of the first session.
    """
    model, sessions = programme.model, Sessions.of(programme, policy)
    active = _active(programme, sessions, n_days, start_level)
    here = active.sum(axis=0)
    back = here @ sessions.ends * (1.0 - model.churn)
    discounted = model.constants.day_discount ** np.arange(n_days) @ active
    swipes, watched_s = float(here @ sessions.swipes), float(here @ sessions.watch_s)
    on_day = active.sum(axis=1)
    first, seventh, thirtieth = (float(on_day[day]) for day in RETENTION_DAYS)
    return Habits(
        session_swipes=swipes / float(here.sum()),
        swipe_s=watched_s / swipes,
        gap_days=float((back / model.comeback).sum() / back.sum()),
        active_days=float(here.sum()),
        retention=(first, seventh, thirtieth),
        daily_active=float(on_day[-LATE_DAYS:].mean()),
        watch=float(discounted @ sessions.watch_s),
        days=float(discounted @ sessions.ends @ programme.discount()),
    )


def _active(programme: Programme, sessions: Sessions, n_days: int, start_level: int) -> Floats:
    """Return the chance of a session on each day by its starting level, shape (n_days, 21)."""
    comeback, alive = programme.model.comeback, 1.0 - programme.model.churn
    active = np.zeros((n_days, N_LEVELS))
    active[0, start_level] = 1.0
    for day in range(n_days - 1):
        gaps = np.arange(n_days - 1 - day)[:, None]
        returns = active[day] @ sessions.ends * alive * comeback * (1.0 - comeback) ** gaps
        active[day + 1 :] += returns @ programme.rest
    return active
