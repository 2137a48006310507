"""Markov states of logged steps, as codes into a table of states.

Equal states share a row and are fitted once; continuous states have a row each. A feature row for
every step and action was rejected: it takes memory for all steps times actions, mostly copies.
"""

from dataclasses import dataclass

import numpy as np

from env.vocabulary import Floats, Ints
from replay.checks import require, require_shape


@dataclass(frozen=True, slots=True, eq=False)
class MarkovSteps:
    """The states of the steps of Trajectories, as codes into a table with pmfs and features.

    Raises:
        ValueError: columns of different shapes, a code outside the table, or an invalid pmf.
    """

    state: Ints  # (n,) before each step, in [0, n_states)
    action: Ints  # (n,) in [0, n_actions)
    after: Ints  # (n,) state after the step; any where the discount is 0
    target: Floats  # (n_states, n_actions) pmf of the target policy
    features: Floats  # (n_states, n_actions, d)

    def __post_init__(self) -> None:
        require_shape(self.state.shape, state=self.state, action=self.action, after=self.after)
        require_shape(self.features.shape[:2], target=self.target)
        n_states, n_actions = self.target.shape
        for name, codes, end in (
            ("state", self.state, n_states),
            ("state after", self.after, n_states),
            ("action", self.action, n_actions),
        ):
            require((codes >= 0) & (codes < end), name, f"in [0, {end})", codes)
        require(np.isfinite(self.features), "feature", "finite", self.features)
        totals = self.target.sum(axis=1)
        is_pmf = (np.abs(totals - 1.0) <= 1e-9) & (self.target >= 0.0).all(axis=1)
        require(is_pmf, "the target's pmf", "at least 0 and sum to 1", totals)

    @property
    def pair(self) -> Ints:
        """The code of each step's state and action, shape (n,)."""
        pair: Ints = self.state * self.target.shape[1] + self.action
        return pair

    def design(self) -> Floats:
        """Return the features of every pair, shape (n_states * n_actions, d)."""
        return self.features.reshape(-1, self.features.shape[2])

    def state_values(self, q: Floats) -> Floats:
        """Return v(s) for q of shape (n_states, n_actions), shape (n_states,)."""
        return np.asarray((self.target * q).sum(axis=1))
