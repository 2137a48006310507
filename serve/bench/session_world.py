"""Logs of MiniSwipe's people as trajectories, and what policies are worth in them, exactly.

One simulation gives two logs: each person's first sessions, every one an episode that ends with
itself; and each person's life up to a day, an episode that goes on beyond the log, its gaps
discounted. States are MiniSwipe's own 336, and Q is taken to be a cubic of satisfaction for each
satiation, load and action: 256 numbers for 1,344.
"""

from dataclasses import dataclass

import numpy as np

from env.miniswipe_model import MIDDLE, N_ACTIONS, N_LEVELS, N_PULSES, N_STATES
from env.miniswipe_programme import Programme
from env.miniswipe_vector import MiniSwipeVectorEnv
from env.vocabulary import Bools, Floats, Ints
from replay.markov import MarkovSteps
from replay.trajectories import Trajectories

DEGREE = 3


@dataclass(frozen=True, slots=True, eq=False)
class MiniLog:
    """Steps of people in order, one row a step.

    Attributes:
        person: from 0, in order, shape (n,).
        session: of the person, from 0, shape (n,).
        state: before the step, shape (n,).
        action: shape (n,).
        after: state after it, shape (n,).
        watch_s: reward, shape (n,).
        discount: of what follows, shape (n,).
        left: whether the session ended with it, shape (n,).
    """

    person: Ints
    session: Ints
    state: Ints
    action: Ints
    after: Ints
    watch_s: Floats
    discount: Floats
    left: Bools

    def of_people(self, first: int, end: int) -> "MiniLog":
        """Return the steps of people in [first, end), numbered from 0."""
        rows = slice(*np.searchsorted(self.person, (first, end)).tolist())
        picked = {name: getattr(self, name)[rows] for name in MiniLog.__slots__}
        picked["person"] = picked["person"] - first
        return MiniLog(**picked)

    def first_sessions(self, n_sessions: int) -> "MiniLog":
        """Return the steps of each person's first sessions, nothing following a session's end."""
        rows = self.session < n_sessions
        picked = {name: getattr(self, name)[rows] for name in MiniLog.__slots__}
        picked["discount"] = np.where(picked["left"], 0.0, 1.0)
        return MiniLog(**picked)

    def trajectories(self, behaviour: Floats, target: Floats, by_session: bool) -> Trajectories:
        """Return the steps with a target's probabilities; policies are pmfs of shape (336, 4)."""
        at = (self.state, self.action)
        begins = np.diff(self.person, prepend=-1) != 0
        if by_session:
            begins |= np.diff(self.session, prepend=-1) != 0
        user = self.person[begins]
        episode = np.cumsum(begins) - 1
        return Trajectories(user, episode, self.watch_s, behaviour[at], target[at], self.discount)

    def markov(self, target: Floats) -> MarkovSteps:
        """Return the states of the steps with their features."""
        return MarkovSteps(self.state, self.action, self.after, target, state_features())


def state_features() -> Floats:
    """Return cubics of satisfaction by satiation, load and action, shape (336, 4, 256)."""
    satisfied = np.arange(N_STATES) // N_PULSES / (N_LEVELS - 1) * 2.0 - 1.0
    powers = np.vander(satisfied, DEGREE + 1, increasing=True)
    pulse = np.eye(N_PULSES)[np.arange(N_STATES) % N_PULSES]
    by_state = np.einsum("sp,sk->spk", pulse, powers).reshape(N_STATES, -1)
    by_pair: Floats = np.einsum("sx,ab->saxb", by_state, np.eye(N_ACTIONS))
    return by_pair.reshape(N_STATES, N_ACTIONS, -1)


def mixed(policy: Floats, share: float) -> Floats:
    """Return a policy that follows another in a share of its choices, else draws uniformly."""
    return share * policy + (1.0 - share) / N_ACTIONS


def live(policy: Floats, n_people: int, n_days: int, generator: np.random.Generator) -> MiniLog:
    """Return the lives of people under a policy until the session that follows the last day."""
    env = MiniSwipeVectorEnv(n_people, obs="ids", horizon_days=n_days)
    upto = policy.cumsum(axis=1)[:, :-1]
    state, _ = env.reset(seed=int(generator.integers(2**62)))
    alive, session = np.ones(n_people, dtype=np.bool_), np.zeros(n_people, dtype=np.int64)
    blocks = []
    while alive.any():
        action = (generator.random(n_people)[:, None] >= upto[state]).sum(axis=1)
        after, reward, terminated, truncated, info = env.step(action)
        columns = (session, state, action, after, reward, info["discount"], info["session_end"])
        here = np.flatnonzero(alive)
        blocks.append([here, *(column[here] for column in columns)])
        session = session + info["session_end"]
        alive &= ~(terminated | truncated)
        state = after
    rows = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    order = np.argsort(rows[0], kind="stable")
    return MiniLog(*(column[order] for column in rows))


def session_value(
    programme: Programme, behaviour: Floats, target: Floats, n_sessions: int
) -> float:
    """Return the seconds of a session under the target, over the log's first sessions, exactly.

    Sessions begin where the behaviour policy left people, so the value is a mean over the levels at
    which sessions begin under it.
    """
    begins = np.zeros(N_LEVELS)
    begins[MIDDLE] = 1.0
    starts = np.arange(N_LEVELS) * N_PULSES
    stay = np.einsum("xa,xay->xy", behaviour, programme.stay)
    leave = np.einsum("xa,xal->xl", behaviour, programme.leave)
    ends = np.linalg.solve(np.eye(N_STATES) - stay, leave)[starts]
    night = (1.0 - programme.model.churn)[:, None] * programme.rest
    levels = [begins]
    for _ in range(n_sessions - 1):
        levels.append(levels[-1] @ ends @ night)
    total = np.sum(levels, axis=0)
    stay = np.einsum("xa,xay->xy", target, programme.stay)
    gains = (target * programme.model.watch_s).sum(axis=1)
    value = np.linalg.solve(np.eye(N_STATES) - stay, gains)[starts]
    return float(total @ value / total.sum())
