"""Explorers: each turns scores and a mask into a pmf over the remaining candidates.

Each is a frozen record of its arguments, so a page's log is enough to rebuild it. Only explorers
that give every candidate a positive probability (`has_support`) may be served; the others are for
comparison. Rejected alternatives: `docs/decisions/exploration.md`.
"""

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats, Ints


def softmax(scores: Floats, temperature: float = 1.0, floor: float = 0.0) -> Floats:
    """Return pmfs of scores along the last axis, mixed with a share of uniform.

    Args:
        scores: shape (..., K).
        temperature: the scale of the scores, above 0.
        floor: the share, in [0, 1].
    """
    powers = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    pmf = powers / powers.sum(axis=-1, keepdims=True)
    return np.asarray((1.0 - floor) * pmf + floor / scores.shape[-1])


def draw(pmf: Floats, rng: np.random.Generator) -> Ints:
    """Return an index drawn from each row of pmfs (n, K) by inverse CDF, shape (n,)."""
    cdf = pmf.cumsum(axis=1)
    return np.asarray((rng.random((len(pmf), 1)) * cdf[:, -1:] >= cdf).sum(axis=1))


LEAST_EXPONENT = -50.0
"""Lower bound of Softmax's exponent: exp(-50) is 2e-22, practically never drawn but not 0."""


class Uniform(msgspec.Struct, frozen=True, tag="uniform", tag_field="kind"):
    """Gives every candidate the same probability."""

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return 1 / |mask| on the mask."""
        return np.asarray(mask / np.count_nonzero(mask), dtype=np.float64)


class Greedy(msgspec.Struct, frozen=True, tag="greedy", tag_field="kind"):
    """Gives the best score all probability; ties share it, whatever the order of candidates."""

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return 1 / ties on the best of the mask."""
        best = mask & (scores == scores[mask].max())
        return np.asarray(best / np.count_nonzero(best), dtype=np.float64)


class Epsilon(msgspec.Struct, frozen=True, tag="epsilon", tag_field="kind"):
    """Greedy with probability 1 - epsilon, else uniform."""

    epsilon: float = 0.1  # in [0, 1]

    def __post_init__(self) -> None:
        _require(0.0 <= self.epsilon <= 1.0, "epsilon", "in [0, 1]", self.epsilon)

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return (1 - epsilon) * greedy + epsilon * uniform."""
        greedy, uniform = Greedy().pmf(scores, mask), Uniform().pmf(scores, mask)
        mixed: Floats = (1.0 - self.epsilon) * greedy + self.epsilon * uniform
        return mixed


class Softmax(msgspec.Struct, frozen=True, tag="softmax", tag_field="kind"):
    """p_i proportional to exp(max((score_i - best) / temperature, LEAST_EXPONENT)).

    The bound keeps every candidate possible. Applied again to the rest for each slot, it draws from
    the Plackett-Luce distribution, down to the bound.
    """

    temperature: float = 0.1  # above 0, in units of the score

    def __post_init__(self) -> None:
        _require(self.temperature > 0.0, "temperature", "above 0", self.temperature)

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return the softmax over the mask, shifted so that nothing overflows."""
        shifted = (scores - scores[mask].max()) / self.temperature
        weights: Floats = np.where(mask, np.exp(np.clip(shifted, LEAST_EXPONENT, 0.0)), 0.0)
        pmf: Floats = weights / weights.sum()
        return pmf


class SquareCB(msgspec.Struct, frozen=True, tag="squarecb", tag_field="kind"):
    """Inverse gap weighting: p_i = 1 / (k + gamma * (best - score_i)), the rest to the best.

    Foster and Rakhlin, "Beyond UCB: Optimal and Efficient Contextual Bandits with Regression
    Oracles", ICML 2020, algorithm 1, with mu = k, the number of candidates left.
    """

    gamma: float = 200.0  # at least 0, finite; larger is greedier. In units of candidates per score

    def __post_init__(self) -> None:
        _require(0.0 <= self.gamma < np.inf, "gamma", "at least 0 and finite", self.gamma)

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return the inverse gap weights over the mask."""
        over = scores[mask]
        best = int(over.argmax())
        weights: Floats = 1.0 / (len(over) + self.gamma * (over[best] - over))
        weights[best] = 0.0
        weights[best] = 1.0 - np.add.reduce(weights)
        pmf = np.zeros(len(mask))
        pmf[mask] = weights
        return pmf


class Mixed(msgspec.Struct, frozen=True, tag="mixed", tag_field="kind"):
    """A convex mixture of explorers over the same scores."""

    parts: tuple["AnyExplorer", ...]
    weights: tuple[float, ...]  # one for each part, non-negative, summing to 1

    def __post_init__(self) -> None:
        fits = len(self.parts) == len(self.weights) and min(self.weights, default=-1.0) >= 0.0
        _require(
            fits and abs(sum(self.weights) - 1.0) < 1e-12,
            "weights",
            f"{len(self.parts)} numbers of at least 0 that sum to 1",
            self.weights,
        )

    def pmf(self, scores: Floats, mask: Bools) -> Floats:
        """Return the weighted sum of the parts' pmfs."""
        total = np.zeros(len(mask))
        for weight, part in zip(self.weights, self.parts, strict=True):
            total += weight * part.pmf(scores, mask)
        return total


AnyExplorer = Uniform | Greedy | Epsilon | Softmax | SquareCB | Mixed


def has_support(explorer: AnyExplorer) -> bool:
    """Return whether it gives every candidate of the mask a positive probability.

    >>> has_support(Greedy()), has_support(Mixed((Greedy(), Uniform()), (0.9, 0.1)))
    (False, True)
    """
    match explorer:
        case Uniform() | Softmax() | SquareCB():
            return True
        case Greedy():
            return False
        case Epsilon():
            return explorer.epsilon > 0.0
        case Mixed():
            parts = zip(explorer.weights, explorer.parts, strict=True)
            return any(weight > 0.0 and has_support(part) for weight, part in parts)


def explorer_args(explorer: AnyExplorer) -> dict[str, object]:
    """Return an explorer's arguments exactly as a log returns them: lists, not tuples.

    >>> explorer_args(Epsilon(0.25))
    {'kind': 'epsilon', 'epsilon': 0.25}
    """
    args: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(explorer))
    return args


def explorer_from(args: dict[str, object]) -> AnyExplorer:
    """Return the explorer that logged arguments describe.

    Raises:
        msgspec.ValidationError: an unknown kind, or an argument out of its range.
    """
    explorer: AnyExplorer = msgspec.convert(args, AnyExplorer)
    return explorer


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")


SHIPPED = Mixed((SquareCB(gamma=2_000.0), Uniform()), (0.97, 0.03))
"""The default: an hour of its log answers questions, see `docs/decisions/exploration.md`."""
