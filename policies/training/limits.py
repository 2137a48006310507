"""Constraints on a trained policy, and the controller of their Lagrange multipliers.

    most_hate       at most this share of cards is answered by "not interested"
    least_exposure  at least this share of cards is of the tail: items that had no more exposures so
        far than half of the items

Each multiplier rises while its constraint is violated and falls while there is slack. The
controller, its sources and rejected alternatives: `docs/decisions/training-limits.md`.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Floats

INTEGRAL = 0.1
PROPORTIONAL = 1.0
ENOUGH = 100.0
"""Number of events from which a share is known to about a tenth."""

_STATE = ("_integral", "_shares", "_multipliers")


class Constraint(NamedTuple):
    """A bound on a share of cards."""

    name: str  # its field in `Constraints`
    event: str  # the counted cards' flag in `info`
    bound: float  # in (0, 1)
    sign: float  # 1 if the share must be at most the bound, -1 if at least
    is_chance: bool  # whether the event is random when the card is chosen

    def is_met(self, share: float) -> bool:
        """Whether a share is within the bound.

        >>> Constraint("least_exposure", "tail", 0.2, -1.0, False).is_met(0.15)
        False
        """
        return self.sign * (share - self.bound) <= 0.0


class Constraints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constraints on a policy; None means no constraint."""

    most_hate: float | None = None  # greatest share of "not interested", in (0, 1)
    least_exposure: float | None = None  # least share of the tail, in (0, 1)

    def __post_init__(self) -> None:
        """Raise ValueError for a bound outside (0, 1)."""
        for name in self.__struct_fields__:
            bound = getattr(self, name)
            if bound is not None and not 0.0 < bound < 1.0:
                raise ValueError(f"expected {name} in (0, 1), got {bound}")

    def listed(self) -> tuple[Constraint, ...]:
        """Return the constraints that are set."""
        limits = []
        if self.most_hate is not None:
            limits.append(Constraint("most_hate", "not_interested", self.most_hate, 1.0, True))
        if self.least_exposure is not None:
            limits.append(Constraint("least_exposure", "tail", self.least_exposure, -1.0, False))
        return tuple(limits)


class ConstraintState(NamedTuple):
    """State of a constraint after an iteration."""

    name: str
    share: float  # running mean of the share, measured before the cards were learned from
    multiplier: float  # its value after the iteration


class Multipliers:
    """The multipliers of a training's constraints, saved with it."""

    def __init__(self, limits: tuple[Constraint, ...]) -> None:
        self._names = tuple(limit.name for limit in limits)
        self._bounds = np.array([limit.bound for limit in limits])
        self._signs = np.array([limit.sign for limit in limits])
        self._integral, self._multipliers = np.zeros((2, len(limits)))
        self._shares: Floats = self._bounds

    @property
    def held(self) -> tuple[ConstraintState, ...]:
        """State after the last iteration; before the first, each share is at its bound."""
        told = (self._names, self._shares.tolist(), self._multipliers.tolist())
        return tuple(ConstraintState(*held) for held in zip(*told, strict=True))

    def follow(self, events: Floats) -> Floats:
        """Return the multipliers after an iteration, shape (n_limits,), at least 0.

        Args:
            events: 1 where a card had a constraint's event, else 0, shape (n, n_limits).
        """
        step = np.minimum(len(events) * self._bounds / ENOUGH, 1.0)
        self._shares = self._shares + step * (events.mean(axis=0) - self._shares)
        broken = self._signs * (self._shares - self._bounds) / self._bounds
        error = np.clip(broken, -1.0, 1.0)
        self._integral = np.maximum(self._integral + INTEGRAL * error, 0.0)
        self._multipliers = np.maximum(self._integral + PROPORTIONAL * error, 0.0)
        return self._multipliers

    def state(self) -> dict[str, Any]:
        """Return the controller's state."""
        return {name: np.array(getattr(self, name)) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the state of another one."""
        for name in _STATE:
            setattr(self, name, np.array(state[name]))
