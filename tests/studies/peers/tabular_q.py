"""Q-learning in a table: what can be had without a model, a network or a critic.

    Q(x, a) += step (r + discount max_b Q(x', b) - Q(x, a)),   step = 1 / (1 + visits)^power

with the discount of each transition, from `info` (Watkins and Dayan, Q-learning, 1992; the power of
the step after Even-Dar and Mansour, Learning Rates for Q-learning, 2003). Many users are swiped at
a time; of several visits to one cell in a step the mean counts, with as many steps.
"""

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints


class TabularArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the table is learned.

    Attributes:
        n_users: at a time.
        n_steps: cards of each.
        epsilon: share of cards at random at the start.
        epsilon_end: at the end.
        power: of the step, in (1/2, 1].
        hope: value that every cell begins with.
    """

    n_users: int = 256
    n_steps: int = 12_000
    epsilon: float = 1.0
    epsilon_end: float = 0.05
    power: float = 0.7
    hope: float = 0.0

    @property
    def n_cards(self) -> int:
        """Number of cards in all."""
        return self.n_users * self.n_steps


class TabularQ:
    """A table of values.

    Attributes:
        values: Q, shape (n_states, n_actions).
    """

    def __init__(self, n_states: int, n_actions: int, args: TabularArgs, seed: int) -> None:
        """Begin with hope everywhere."""
        self.values: Floats = np.full((n_states, n_actions), args.hope)
        self._visits: Floats = np.zeros((n_states, n_actions))
        self._args, self._generator = args, np.random.default_rng(seed)

    def act(self, state: Ints, step: int) -> Ints:
        """Return actions: the best so far, or any.

        Args:
            state: shape (n,).
            step: number of it, by which randomness falls.
        """
        args, draw = self._args, self._generator
        done = step / max(args.n_steps - 1, 1)
        epsilon = args.epsilon + (args.epsilon_end - args.epsilon) * done
        best = self.values[state].argmax(axis=1)
        strays = draw.random(len(state)) < epsilon
        return np.where(strays, draw.integers(self.values.shape[1], size=len(state)), best)

    def learn(
        self, state: Ints, action: Ints, reward: Floats, discount: Floats, after: Ints
    ) -> None:
        """Learn from transitions, all of shape (n,); the discount is 0 where nothing follows."""
        target = reward + discount * self.values[after].max(axis=1)
        cell = state * self.values.shape[1] + action
        n = np.bincount(cell, minlength=self.values.size).reshape(self.values.shape)
        total = np.bincount(cell, target, self.values.size).reshape(self.values.shape)
        step = 1.0 - (1.0 - (1.0 + self._visits) ** -self._args.power) ** n
        self._visits += n
        self.values += np.where(n > 0, step * (total / n.clip(1) - self.values), 0.0)
