"""A small Markov model fitted to transitions, in which policies are evaluated exactly.

An observed state is a level (satisfaction in the twin) and a mode. Rewards, exits, moves and
returns are fitted separately and combined as matrices. Equations, assumptions and rejected
alternatives: `docs/decisions/fitted-model.md`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from env.vocabulary import Floats
from policies.local_linear import LocalLinear
from policies.pair_logit import pair_chances
from policies.tally import Grid, Tally

BANDWIDTH = 0.2
"""Standard deviation of the Gaussian kernel over the level, in the level's unit."""
LEAST_EXIT = 1e-3
"""Least exit probability of the fitted model; without it values within sessions are unbounded."""
LEAST_SHARE = 1e-12
MOST_DISCOUNT = 0.999
"""Upper bound on a fitted discount: lines extrapolate beyond it where no data is."""
NEAR_RETURNS = 3.0
"""Weight, in returns, of the smoothed distribution of where sessions start."""
STAYS = 1e-3
"""Weight of staying in a mode, for actions that were never tried in it."""


class Worth(NamedTuple):
    """Weights of a card's reward and of a return in the objective."""

    card: float = 1.0
    comeback: float = 0.0


WATCH, DAYS = Worth(1.0, 0.0), Worth(0.0, 1.0)


class Values(NamedTuple):
    """Values of a policy in a model."""

    state: Floats  # (n_states,) V
    action: Floats  # (n_states, n_actions) Q


@dataclass(frozen=True, slots=True)
class FittedModel:
    """The fitted quantities as matrices."""

    grid: Grid
    reward: Floats  # (n_states, n_actions) of a card
    comeback: Floats  # (n_states, n_actions) discounted worth of the returns after it
    onward: Floats  # (n_states, n_actions, n_states) discounted chance of each next state

    @classmethod
    def fit(cls, tally: Tally, bandwidth: float = BANDWIDTH) -> "FittedModel":
        """Return the model fitted to the sums of transitions.

        Args:
            bandwidth: of the level, above 0.

        Raises:
            ValueError: no session's end was seen, or the bandwidth is not above 0.
        """
        if not tally.left.any():
            raise ValueError("expected transitions with a session's end among them, got none")
        grid, smooth = tally.grid, LocalLinear.of(tally.grid.n_levels, bandwidth)
        shape = (grid.n_states, tally.cards.shape[2])
        cells = (grid.n_levels, *grid.cells[1:], shape[1])
        leaves = pair_chances(tally.left.reshape(cells), tally.cards.reshape(cells))
        leaves = np.maximum(leaves, LEAST_EXIT)
        after = _arrivals(tally).reshape(*shape, grid.n_states)
        returns = smooth.means(tally.left.sum(axis=(1, 2)), tally.returned)
        worth = np.clip(returns.sum(axis=(1, 2)), 0.0, MOST_DISCOUNT)
        starts = _shares(_placed(tally.returned + NEAR_RETURNS * returns, grid))
        starts = starts.reshape(grid.n_levels, grid.n_states)
        leaves = leaves.reshape(*shape, 1)
        by_level = after.reshape(*shape, grid.n_levels, grid.n_modes).sum(axis=3)
        ending = leaves * (by_level @ (worth[:, None] * starts))
        return cls(
            grid,
            reward=smooth.means(tally.cards, tally.reward).reshape(shape),
            comeback=ending.sum(axis=2),
            onward=(1.0 - leaves) * after + ending,
        )

    def rewards(self, worth: Worth) -> Floats:
        """Return the worth of a card with the returns after it, shape (n_states, n_actions)."""
        return worth.card * self.reward + worth.comeback * self.comeback

    def evaluate(self, policy: Floats, worth: Worth) -> Values:
        """Return the values of a policy, a pmf for each state, shape (n_states, n_actions)."""
        rewards = self.rewards(worth)
        chain = np.matmul(policy[:, None, :], self.onward)[:, 0]
        state = np.linalg.solve(np.eye(len(chain)) - chain, (policy * rewards).sum(axis=1))
        return Values(state, rewards + self.onward @ state)


def _placed(moves: Floats, grid: Grid) -> Floats:
    """Return the chance of each target level; moves beyond an end stay at it.

    Args:
        moves: shape (L, .., 2 L - 1, M).

    Returns:
        Of shape (L, .., L, M).
    """
    last = grid.n_levels - 1
    places = np.empty((*moves.shape[:-2], grid.n_levels, moves.shape[-1]))
    for level in range(grid.n_levels):
        down, up = last - level, 2 * last - level
        places[level] = moves[level, ..., down : up + 1, :]
        places[level, ..., 0, :] += moves[level, ..., :down, :].sum(axis=-2)
        places[level, ..., last, :] += moves[level, ..., up + 1 :, :].sum(axis=-2)
    return places


def _arrivals(tally: Tally) -> Floats:
    """Return the chance of each state after a card within a session, shape (L, M, A, L, M)."""
    grid, n = tally.grid, tally.cards - tally.left
    cells = (*grid.cells, n.shape[2])
    moved = tally.moved.sum(axis=-1)
    moves, still = np.zeros(moved.shape), grid.n_levels - 1
    for move in np.flatnonzero(moved.sum(axis=(0, 1, 2))):
        if move != still:
            chances = pair_chances(moved[..., move].reshape(cells), n.reshape(cells))
            moves[..., move] = chances.reshape(n.shape)
    moves /= np.maximum(moves.sum(axis=-1, keepdims=True), 1.0)
    moves[..., still] = 1.0 - moves.sum(axis=-1)
    modes = tally.moved.sum(axis=(0, 3)) + STAYS * np.eye(grid.n_modes)[:, None]
    modes /= modes.sum(axis=-1, keepdims=True)
    levels = _placed(moves[..., None], grid)
    return np.asarray(levels * modes[:, :, None])


def _shares(places: Floats) -> Floats:
    """Return chances: no value is below 0, and the last two axes sum to 1."""
    positive = np.maximum(places, LEAST_SHARE)
    return np.asarray(positive / positive.sum(axis=(-2, -1), keepdims=True))
