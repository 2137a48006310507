"""A small Markov model fitted to transitions, in which policies are evaluated exactly.

An observed state is a level (satisfaction in the twin) and a mode. Rewards, exits, moves and
returns are fitted separately and combined as matrices. Equations, assumptions and rejected
alternatives: `docs/decisions/fitted-model.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import msgspec
import numpy as np

from env.arrays.reals import logistic
from env.vocabulary import Bools, Float32s, Floats, Ints

FLAT = 1e-3
"""Added to the levels' variance, so that the slope is 0 where only one level was seen."""

LEAST_SEEN = 1e-3
"""Weight of the overall mean, for points without data."""


class LocalLinear(NamedTuple):
    """Moments of the kernel, each (L, L): the weight, times distance, times its square."""

    weight: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(cls, n_places: int, bandwidth: float) -> "LocalLinear":
        """Return the moments for n_places >= 2 points from 0 to 1.

        Raises:
            ValueError: the bandwidth, the kernel's standard deviation, is not above 0.
        """
        if bandwidth <= 0.0:
            raise ValueError(f"expected a bandwidth above 0, got {bandwidth}")
        place = np.arange(n_places) / (n_places - 1)
        distance = place - place[:, None]
        weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
        return cls(weight, weight * distance, weight * distance**2)

    def means(self, n: Floats, sums: Floats) -> Floats:
        """Return the smoothed means at each point.

        Args:
            n: weight of each sum, shape (L, ..).
            sums: shape of n, with any number of further axes.
        """
        over = tuple(range(n.ndim))
        prior = sums.sum(axis=over) / n.sum()
        n = n.reshape(*n.shape, *[1] * (sums.ndim - n.ndim))
        zeroth, first, second = (np.tensordot(part, n, axes=1) for part in self)
        total, slope = (np.tensordot(part, sums, axes=1) for part in self[:2])
        zeroth += LEAST_SEEN
        second += FLAT
        total += LEAST_SEEN * prior
        return (second * total - first * slope) / (second * zeroth - first**2)


MOST_DEGREE = 3
N_ROUNDS = 30
CLOSE = 1e-3
LONGEST_STEP = 3.0
PRECISIONS = (1e-2, 1e4)
LEAST_CHANCE = 1e-6


def pair_chances(hits: Floats, n: Floats) -> Floats:
    """Return the chance of a hit in each cell.

    Args:
        hits: in [0, n], shape of n.
        n: cards, any shape of two or more axes, some above 0.
    """
    terms = _terms(n.shape)
    design, total, hit = terms.design, n.ravel(), hits.ravel()
    share = np.clip(hit.sum() / total.sum(), LEAST_CHANCE, 1.0 - LEAST_CHANCE)
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(share / (1.0 - share))
    precision = np.ones(terms.kind.max() + 1)
    for _ in range(N_ROUNDS):
        ridge = precision[terms.kind]
        ridge[0] = LEAST_CHANCE
        chance = np.asarray(logistic(design @ weights))
        gradient = design.T @ (hit - total * chance) - ridge * weights
        curvature = (design * (total * chance * (1.0 - chance))[:, None]).T @ design
        spread = np.linalg.inv(curvature + np.diag(ridge))
        step = spread @ gradient
        # A full step overshoots where a level of an axis has no hit.
        step *= min(1.0, LONGEST_STEP / max(np.abs(step).max(), LEAST_CHANCE))
        weights += step
        effective = np.bincount(terms.kind, 1.0 - ridge * np.diag(spread))
        squares = np.bincount(terms.kind, weights**2)
        precision = np.clip(effective / np.maximum(squares, LEAST_CHANCE), *PRECISIONS)
        if np.abs(step).max() < CLOSE:
            break
    return np.asarray(logistic(design @ weights)).reshape(n.shape)


class _Terms(NamedTuple):
    """Columns of the regression, of which the first is 1, and the kind of each."""

    design: Floats  # (n_cells, n_weights)  # (n_cells, n_weights)
    kind: Ints  # (n_weights,)  # (n_weights,)


@cache
def _terms(shape: tuple[int, ...]) -> _Terms:
    places = np.indices(shape).reshape(len(shape), -1)
    axes = [_powers(shape[0], 1)[places[0]]]
    for n, place in zip(shape[1:-1], places[1:-1], strict=True):
        axes.append(_powers(n, min(MOST_DEGREE, n - 1))[place])
    axes.append(np.eye(shape[-1])[places[-1]])
    degrees = [list(range(axis.shape[1])) for axis in axes[:-1]] + [[0] * shape[-1]]
    columns: list[Floats] = [np.ones((places.shape[1], 1))]
    kinds: list[tuple[int, ...]] = [()]
    for j, axis in enumerate(axes):
        columns.append(axis)
        kinds += [(j, degree) for degree in degrees[j]]
    for j, k in combinations(range(len(axes)), 2):
        products = axes[j][:, :, None] * axes[k][:, None, :]
        columns.append(products.reshape(len(products), -1))
        kinds += [(j, k, max(one, other)) for one in degrees[j] for other in degrees[k]]
    number = {kind: i for i, kind in enumerate(dict.fromkeys(kinds))}
    return _Terms(np.concatenate(columns, axis=1), np.array([number[kind] for kind in kinds]))


def _powers(n: int, most: int) -> Floats:
    """Return orthogonal polynomials of degree 1 to `most` at n even points, shape (n, most)."""
    if n == 1:
        return np.zeros((1, 0))
    powers = np.vander(np.linspace(-1.0, 1.0, n), most + 1, increasing=True)
    orthogonal, _ = np.linalg.qr(powers)
    return np.asarray(orthogonal[:, 1:] * np.sqrt(n))


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
class TransitionSums:
    """Sums of transitions; L levels, M modes, A actions, D = 2 L - 1 moves of the level."""

    grid: Grid
    cards: Floats  # (L, M, A) number of cards
    reward: Floats  # (L, M, A) sum of rewards
    left: Floats  # (L, M, A) ended sessions
    moved: Floats  # (L, M, A, D, M) cards within a session, by move and next mode
    returned: Floats  # (L, D, M) discounts at sessions' ends, by the next session's start

    @classmethod
    def empty(cls, grid: Grid, n_actions: int) -> "TransitionSums":
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


class ObjectiveWeights(NamedTuple):
    """Weights of a card's reward and of a return in the objective."""

    card: float = 1.0
    comeback: float = 0.0


WATCH, DAYS = ObjectiveWeights(1.0, 0.0), ObjectiveWeights(0.0, 1.0)


class PolicyValues(NamedTuple):
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
    def fit(cls, tally: TransitionSums, bandwidth: float = BANDWIDTH) -> "FittedModel":
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

    def rewards(self, worth: ObjectiveWeights) -> Floats:
        """Return the worth of a card with the returns after it, shape (n_states, n_actions)."""
        return worth.card * self.reward + worth.comeback * self.comeback

    def evaluate(self, policy: Floats, worth: ObjectiveWeights) -> PolicyValues:
        """Return the values of a policy, a pmf for each state, shape (n_states, n_actions)."""
        rewards = self.rewards(worth)
        chain = np.matmul(policy[:, None, :], self.onward)[:, 0]
        state = np.linalg.solve(np.eye(len(chain)) - chain, (policy * rewards).sum(axis=1))
        return PolicyValues(state, rewards + self.onward @ state)


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


def _arrivals(tally: TransitionSums) -> Floats:
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
