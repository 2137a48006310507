"""A small Markov chain of episodes whose every value is a linear system, for tests of replay.

Three states, two actions; which state comes next hangs on the action, an episode ends with a chance
of its own in each state. A state of which only the parity is told hides what matters.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.trajectories import MarkovSteps, Trajectories

N_STATES, N_ACTIONS = 3, 2
NEXT = np.array(
    [
        [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]],
        [[0.5, 0.4, 0.1], [0.0, 0.2, 0.8]],
        [[0.3, 0.3, 0.4], [0.2, 0.0, 0.8]],
    ]
)
END = np.array([0.1, 0.2, 0.3])
REWARD = np.array([[1.0, 0.0], [0.5, 2.0], [4.0, 1.0]])
DISCOUNT = 0.95
LOGGING = np.array([[0.6, 0.4], [0.5, 0.5], [0.3, 0.7]])
NEAR = np.array([[0.5, 0.5], [0.4, 0.6], [0.4, 0.6]])
FAR = np.array([[0.05, 0.95], [0.1, 0.9], [0.95, 0.05]])


def exact_q(target: Floats) -> Floats:
    """Return Q of each state and action, shape (3, 2)."""
    onward = DISCOUNT * (1.0 - END)[:, None, None] * NEXT
    chain = np.einsum("sa,sat->st", target, onward)
    v = np.linalg.solve(np.eye(N_STATES) - chain, (target * REWARD).sum(axis=1))
    return np.asarray(REWARD + onward @ v)


def exact_value(target: Floats) -> float:
    """Return a policy's value from state 0, where episodes begin."""
    return float((target * exact_q(target))[0].sum())


@dataclass(frozen=True, eq=False)
class ChainLog:
    """Steps in order, one row a step."""

    user: Ints  # (m,)
    episode: Ints  # (n,)
    state: Ints
    action: Ints
    after: Ints
    reward: Floats
    discount: Floats

    def trajectories(self, target: Floats) -> Trajectories:
        at = (self.state, self.action)
        return Trajectories(
            self.user, self.episode, self.reward, LOGGING[at], target[at], self.discount
        )

    def markov(self, target: Floats) -> MarkovSteps:
        table = np.eye(N_STATES * N_ACTIONS).reshape(N_STATES, N_ACTIONS, -1)
        return MarkovSteps(self.state, self.action, self.after, target, table)


def draw_chain(n_episodes: int, seed: int, noise: float = 1.0, each: int = 2) -> ChainLog:
    """Return episodes of the logging policy, so many a user, with noise in the rewards."""
    rng = np.random.default_rng(seed)
    rows = []
    for episode in range(n_episodes):
        state, over = 0, False
        while not over:
            action = int(rng.random() < LOGGING[state, 1])
            over = bool(rng.random() < END[state])
            after = int(rng.choice(N_STATES, p=NEXT[state, action]))
            reward = REWARD[state, action] + noise * rng.normal()
            rows.append((episode, state, action, after, reward, 0.0 if over else DISCOUNT))
            state = after
    episode_of, state_of, action_of, after_of, rewards, discounts = zip(*rows, strict=True)
    return ChainLog(
        user=np.arange(n_episodes) // each,
        episode=np.array(episode_of),
        state=np.array(state_of),
        action=np.array(action_of),
        after=np.array(after_of),
        reward=np.array(rewards),
        discount=np.array(discounts),
    )
