"""Sums of transitions between observed states, the data of a fitted model.

A transition is stored as a move of the level rather than as a target, so that levels share their
moves. Sums are cheap to extend; the transitions themselves would be thousands of cards a life, read
again by each fit. Derivation: `docs/decisions/fitted-model.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Bools, Float32s, Floats, Ints


class Grid(msgspec.Struct, frozen=True):
    """Maps observed states to table rows; the first column is the level."""

    cells: tuple[int, ...]  # number of cells of each column, which is in [0, 1] and divided evenly

    def __post_init__(self) -> None:
        """Raise ValueError for a column without cells, or fewer than 2 levels."""
        if len(self.cells) < 1 or min(self.cells) < 1 or self.cells[0] < 2:
            raise ValueError(f"expected 2 levels or more, and cells of 1 or more, got {self.cells}")

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return self.cells[0]

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return int(np.prod(self.cells[1:], dtype=np.int64))

    @property
    def n_states(self) -> int:
        """Number of states; a state is level · n_modes + mode."""
        return self.n_levels * self.n_modes

    def states(self, observations: Float32s) -> Ints:
        """Return the states, (n,) in [0, n_states), of observations (n, n_columns) in [0, 1]."""
        last = np.array(self.cells) - 1
        places = np.clip(np.rint(observations * last), 0, last).astype(np.int64)
        return np.asarray(np.ravel_multi_index(tuple(places.T), self.cells), dtype=np.int64)

    def observations(self) -> Float32s:
        """Return the observation at the middle of each state, shape (n_states, n_columns)."""
        places = np.stack(np.unravel_index(np.arange(self.n_states), self.cells), axis=1)
        shares = places / np.maximum(np.array(self.cells) - 1, 1)
        return np.asarray(shares, dtype=np.float32)


class Transitions(NamedTuple):
    """Transitions of n cards, each field of shape (n,)."""

    state: Ints  # before the card
    action: Ints  # index of the action
    reward: Floats  # of the card itself
    left: Bools  # whether the session ended after it
    # Discount after a session's end, 0 if the user never returns; also the worth of the return.
    # Not read within a session.
    discount: Floats
    after: Ints  # state after the card: in the same session, or at the start of the next one

    @classmethod
    def of(cls, state: Ints, action: Ints, info: dict[str, Any], after: Ints) -> "Transitions":
        """Return one environment step's transitions, with watch time as reward."""
        return cls(state, action, info["watch_s"], info["session_end"], info["discount"], after)

    @classmethod
    def joined(cls, parts: Sequence["Transitions"]) -> "Transitions":
        """Return one record of all parts, at least one."""
        return cls(
            np.concatenate([part.state for part in parts]),
            np.concatenate([part.action for part in parts]),
            np.concatenate([part.reward for part in parts]),
            np.concatenate([part.left for part in parts]),
            np.concatenate([part.discount for part in parts]),
            np.concatenate([part.after for part in parts]),
        )

    def where(self, kept: Bools) -> "Transitions":
        """Return the transitions that the mask keeps."""
        return Transitions(
            self.state[kept],
            self.action[kept],
            self.reward[kept],
            self.left[kept],
            self.discount[kept],
            self.after[kept],
        )


@dataclass(slots=True)
class Tally:
    """Sums of transitions; L levels, M modes, A actions, D = 2 L - 1 moves of the level."""

    grid: Grid
    cards: Floats  # (L, M, A) number of cards
    reward: Floats  # (L, M, A) sum of rewards
    left: Floats  # (L, M, A) ended sessions
    moved: Floats  # (L, M, A, D, M) cards within a session, by move and next mode
    returned: Floats  # (L, D, M) discounts at sessions' ends, by the next session's start

    @classmethod
    def empty(cls, grid: Grid, n_actions: int) -> "Tally":
        """Return sums of nothing."""
        n_levels, n_modes = grid.n_levels, grid.n_modes
        each, to = (n_levels, n_modes, n_actions), (2 * n_levels - 1, n_modes)
        return cls(
            grid,
            cards=np.zeros(each),
            reward=np.zeros(each),
            left=np.zeros(each),
            moved=np.zeros((*each, *to)),
            returned=np.zeros((n_levels, *to)),
        )

    def add(self, transitions: Transitions) -> None:
        """Add transitions to the sums."""
        t, n_levels, n_modes = transitions, self.grid.n_levels, self.grid.n_modes
        level, mode = np.divmod(t.state, n_modes)
        next_level, next_mode = np.divmod(t.after, n_modes)
        move = next_level - level + n_levels - 1
        at, to = (level, mode, t.action), (move, next_mode)
        self.cards += _sums(self.cards.shape, at)
        self.reward += _sums(self.cards.shape, at, t.reward)
        self.left += _sums(self.cards.shape, at, t.left.astype(np.float64))
        self.moved += _sums(self.moved.shape, (*at, *to), (~t.left).astype(np.float64))
        follows = np.where(t.left, t.discount, 0.0)
        self.returned += _sums(self.returned.shape, (level, *to), follows)


def _sums(shape: tuple[int, ...], at: tuple[Ints, ...], weights: Floats | None = None) -> Floats:
    """Return a table of this shape with each cell's sum of weights, or its count."""
    rows = np.ravel_multi_index(at, shape)
    size = int(np.prod(shape))
    return np.bincount(rows, weights, size).reshape(shape).astype(np.float64)
