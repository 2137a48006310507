"""What a policy is really worth: it is played, by the people whom another policy was played by.

Everybody lives the same number of days from the same seed; until the first card that differs they
do the same. So differences are taken person by person.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env.lives import LifeReward
from env.vocabulary import Floats
from replay.intervals import Estimate, clustered_estimate
from serve.bench.offline_world import PagePolicy, WorldArgs, play


@dataclass(frozen=True, slots=True, eq=False)
class Lived:
    """Sums of each person's life, n people."""

    sessions: Floats  # (n,) each on a day of its own
    worth: Floats  # (n,) rewards of cards and returns, not discounted
    engagement: Floats  # (n,) of cards alone
    watch_s: Floats  # (n,)
    cards: Floats  # (n,)


class OnPolicy(msgspec.Struct, frozen=True):
    """What a policy came to when it was played, beside the one that made the log.

    Attributes:
        policy: which.
        session: worth of a session, returns included.
        engagement: of a session's cards.
        active_days: of a person.
        watch_s: of a person.
        session_gain: over the log's policy.
        days_gain: the same, of active days.
    """

    policy: str
    session: float
    engagement: float
    active_days: float
    watch_s: float
    session_gain: Estimate
    days_gain: Estimate


def live(args: WorldArgs, policy: PagePolicy, seed: int, reward: LifeReward) -> Lived:
    """Return what people's lives under a policy come to.

    Args:
        args: of the world.
        policy: which draws the pages.
        seed: of the people.
        reward: what cards and returns are worth.
    """
    sessions, engagement, returns, watch_s, cards = np.zeros((5, args.people))
    for turned in play(args, policy, seed):
        here = turned.place
        is_back = turned.leaves & ~turned.is_gone & (turned.gap_days <= reward.window_days)
        sessions[here] += turned.leaves
        engagement[here] += turned.reward
        returns[here] += np.where(is_back, reward.day_discount**turned.gap_days, 0.0)
        watch_s[here] += turned.events["watch_s"].sum(axis=1)
        cards[here] += turned.n_cards
    worth = engagement + reward.return_worth * returns
    return Lived(sessions, worth, engagement, watch_s, cards)


def compare(policy: str, lived: Lived, behaviour: Lived) -> OnPolicy:
    """Return what a policy came to, beside the log's own, with intervals by person."""
    per_session = lived.worth.sum() / lived.sessions.sum()
    its = behaviour.worth.sum() / behaviour.sessions.sum()
    n, person = len(lived.worth), np.arange(len(lived.worth))
    influence = n * (
        (lived.worth - per_session * lived.sessions) / lived.sessions.sum()
        - (behaviour.worth - its * behaviour.sessions) / behaviour.sessions.sum()
    )
    days = lived.sessions - behaviour.sessions
    return OnPolicy(
        policy=policy,
        session=float(per_session),
        engagement=float(lived.engagement.sum() / lived.sessions.sum()),
        active_days=float(lived.sessions.mean()),
        watch_s=float(lived.watch_s.mean()),
        session_gain=clustered_estimate(
            "on policy, a session", float(per_session - its), influence, person, n
        ),
        days_gain=clustered_estimate(
            "on policy, active days", float(days.mean()), days - days.mean(), person, n
        ),
    )
