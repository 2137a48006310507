"""What a session would have gained under another policy, with what it left behind.

The unit is a session. What it does to the ones after it is in its reward, as far as it shows at its
end: whether and how soon the user was back (`env.lives.LifeReward`). So the value is that of
following the target for one session, from where the log's policy left users, and going on as the
log did: the first step of policy improvement, not the value of a life under the target.

The gain is paired, session by session, as `replay.estimators.dr_gain` pairs decisions:

    v(s_0) + sum_t ratio_t (r_t + v(s_{t+1}) - q(s_t, a_t)) - sum_t r_t

Its ratios are those of `replay.marginal`, of where in a session a card is: how many cards the
target's users see, and what it would show there. It is doubly robust: consistent if nothing else
that the target changes matters for what follows, or if the values are right, and its error is the
product of both. `nextswipe bench offline` plays what it judged: both gains stand side by side.

Rejected: products of weights over the session (25 cards of E[w^2] = 1.1 leave 9% of the sessions,
and their noise hid the gains that are to be seen in that benchmark), of the life (no log is long
enough), and a fitted Q alone (its error is not in its interval, and the better a policy looks to a
Q that it was made from, the more it is).
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
"""Cards of a session after which places in it count as one."""


def session_trajectories(lives: Lives, pmfs: Floats, reward: LifeReward) -> Trajectories:
    """Return the sessions of lives, each an episode that nothing follows.

    Args:
        lives: of a log.
        pmfs: of the target at each step, shape (n, K).
        reward: what a card and a return are worth.
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
    """Return what a Q that knows nothing of these users says of each step.

    Args:
        lives: of a log.
        pmfs: of the target at each step, shape (n, K).
        q: of each candidate, the session's end included, shape (n, K).
    """
    before = (pmfs * q).sum(axis=1)
    after = lives.after(before, np.zeros(lives.n_lives))
    return Values(lives.of_chosen(q), before, after)


def join_sessions(parts: Sequence[Trajectories]) -> Trajectories:
    """Return the sessions of shards in one; nobody is in two of them."""
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
    """Return the values of shards' steps in one."""
    columns = ([getattr(part, name) for part in parts] for name in Values.__slots__)
    return Values(*(np.concatenate(column) for column in columns))


def session_gain(trajectories: Trajectories, values: Values, level: float = LEVEL) -> Estimate:
    """Return by how much the target's sessions exceed the logged ones, paired; `ess` is in cards.

    Args:
        trajectories: sessions.
        values: from other users.
        level: of the interval.

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
