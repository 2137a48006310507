"""Attendance: the rules that decide when simulated users visit the feed.

A swarm asks its attendance for the first arrivals and, after each visit, for the next one. The
`ConstantAttendance` here serves load tests and policy comparisons; the calendar of the simulated
world serves retention. Why there are two: `docs/decisions/swarm-attendance.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from env.world.user import SimulatedUser
from serve.swarm.visit import SwarmVisit
from serve.wire.feed import SceneBody

ARRIVAL_SPREAD_MS = 20_000
DAY_MS = 86_400_000
NETWORKS = ("wifi", "cellular")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A simulated user who is about to visit.

    Attributes:
        place: index of the user in the attendance.
        scene: scene of the visit, without the time.
    """

    place: int
    user: SimulatedUser
    at_ms: int
    scene: SceneBody


class Attendance(Protocol):
    """The rule that decides which simulated user visits when."""

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """Return the first arrivals, each at `at_ms` or later."""
        ...

    def leave(self, visit: SwarmVisit, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        """End a visit; return the arrival that replaces it, at `at_ms` or later, or None."""
        ...


class ConstantAttendance:
    """Keeps a fixed number of simulated users present, each drawn at random."""

    def __init__(self, users: Sequence[SimulatedUser], n_present: int) -> None:
        """Hold the simulated users.

        Args:
            users: more than `n_present`; they keep their state between visits.
            n_present: visits at a time.

        Raises:
            ValueError: there are not more users than `n_present`.
        """
        if len(users) <= n_present:
            raise ValueError(f"expected more than {n_present} users, got {len(users)}")
        self._users = users
        self._n_present = n_present
        self._absent = list(range(len(users)))
        self._left_ms: dict[int, int] = {}

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """See `Attendance.begin`."""
        return [self._arrive(at_ms, rng) for _ in range(self._n_present)]

    def leave(self, visit: SwarmVisit, at_ms: int, rng: np.random.Generator) -> Arrival:
        """See `Attendance.leave`; there is always a next arrival."""
        self._left_ms[visit.place] = at_ms
        self._absent.append(visit.place)
        return self._arrive(at_ms, rng)

    def _arrive(self, at_ms: int, rng: np.random.Generator) -> Arrival:
        """Draw an absent user and let them arrive within `ARRIVAL_SPREAD_MS`."""
        k = int(rng.integers(len(self._absent)))
        place = self._absent[k]
        self._absent[k] = self._absent[-1]
        self._absent.pop()
        user = self._users[place]
        comes_ms = at_ms + int(rng.integers(ARRIVAL_SPREAD_MS))
        if place in self._left_ms:
            user.rest((comes_ms - self._left_ms[place]) / DAY_MS)
        return Arrival(place, user, comes_ms, SceneBody(network=pick_network(rng)))


def pick_network(rng: np.random.Generator) -> str:
    """Return a random network type."""
    return NETWORKS[int(rng.integers(len(NETWORKS)))]
