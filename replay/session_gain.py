"""The gain of a session under another policy, including its effect on the user's return.

The unit is a session; its reward includes whether and how soon the user returned
(`env.lives.LifeReward`). The value is that of following the target for one session and the log
afterwards. The gain is paired by session and doubly robust with the ratios of `replay.marginal`.
Formula, assumptions and rejected alternatives: `docs/decisions/sequence-estimators.md`.
"""

from collections.abc import Sequence

import numpy as np

from env.lives import LifeReward, Lives
from env.vocabulary import Floats
from replay.checks import require_shape
from replay.intervals import LEVEL, Estimate, effective_sample_size
from replay.marginal import CoarseStates, solve_marginals
from replay.ratios import Ratio, ratio_estimate
from replay.trajectories import Trajectories, Values

MOST_CARDS = 60
"""Position in a session beyond which all cards share one state."""


def session_trajectories(lives: Lives, pmfs: Floats, reward: LifeReward) -> Trajectories:
    """Return the sessions of lives, each an episode of its own.

    Args:
        pmfs: the target's pmf at each step, shape (n, K).
        reward: reward of a card and of a return.
    """
    session = lives.session
    begins = np.flatnonzero(np.diff(session, prepend=-1))
    return Trajectories(
        user=np.asarray(lives.life[begins]),
        episode=session,
        reward=reward.rewards(lives),
        propensity=np.asarray(lives.propensity),
        target=lives.of_chosen(pmfs),
        discount=np.where(lives.leaves, 0.0, 1.0),
    )


def session_values(lives: Lives, pmfs: Floats, q: Floats) -> Values:
    """Return each step's values by a Q of other users; pmfs and q have shape (n, K)."""
    before = (pmfs * q).sum(axis=1)
    after = lives.after(before, np.zeros(lives.n_lives))
    return Values(lives.of_chosen(q), before, after)


def join_sessions(parts: Sequence[Trajectories]) -> Trajectories:
    """Return the sessions of several shards as one; the shards share no user."""
    n_people = np.cumsum([0, *(int(part.user.max()) + 1 for part in parts)])[:-1].tolist()
    n_sessions = np.cumsum([0, *(len(part) for part in parts)])[:-1].tolist()
    user, episode, *rest = (
        [getattr(part, name) for part in parts] for name in Trajectories.__slots__
    )
    return Trajectories(
        np.concatenate([code + first for code, first in zip(user, n_people, strict=True)]),
        np.concatenate([code + first for code, first in zip(episode, n_sessions, strict=True)]),
        *(np.concatenate(column) for column in rest),
    )


def join_values(parts: Sequence[Values]) -> Values:
    """Return the step values of several shards as one."""
    columns = ([getattr(part, name) for part in parts] for name in Values.__slots__)
    return Values(*(np.concatenate(column) for column in columns))


def session_gain(trajectories: Trajectories, values: Values, level: float = LEVEL) -> Estimate:
    """Return the paired gain of the target's sessions over the logged ones; `ess` is in cards.

    Args:
        values: fitted on other users.
        level: coverage of the interval.

    Raises:
        ValueError: the target could not have begun any session of the log.
    """
    require_shape(trajectories.reward.shape, chosen=values.chosen)
    place = np.arange(len(trajectories.reward)) - trajectories.first[trajectories.episode]
    states = CoarseStates(np.minimum(place, MOST_CARDS), np.minimum(place + 1, MOST_CARDS))
    ratio = solve_marginals(trajectories, states).ratio
    surprise = trajectories.reward + trajectories.discount * values.after - values.chosen
    terms = values.before[trajectories.first] + trajectories.sums(ratio * surprise)
    terms -= trajectories.sums(trajectories.reward)
    gain = [Ratio(terms, np.ones(len(terms)))]
    return ratio_estimate(
        "session gain", gain, trajectories.user, effective_sample_size(ratio), level
    )
