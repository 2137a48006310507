"""Who is in front of the feed: a swarm asks for the first ones, and after each visit who is next.

There are two ways to attend, for the two jobs of a swarm. A `Rush` keeps as many people present as
asked for, whoever was away comes back within seconds: days of swiping are pressed into minutes, as
a load test and the comparison of two policies want it, and nobody's absence means anything. In
`serve.world_calendar` people come back when the world says, days later or never, as whatever is
about retention needs it; how many are present is then nobody's choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from env.viewer import Viewer
from serve.visits import Visit
from serve.wire import SceneBody

ARRIVAL_SPREAD_MS = 20_000
DAY_MS = 86_400_000
NETWORKS = ("wifi", "cellular")


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody who comes.

    Attributes:
        place: of the person in their attendance.
        at_ms: when they ask for their first page.
        scene: where, but for the time.
    """

    place: int
    viewer: Viewer
    at_ms: int
    scene: SceneBody


class Attendance(Protocol):
    """Says who comes when."""

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """Return who comes first, each at this time or later.

        Args:
            at_ms: when the swarm gathers.
            rng: of the swarm.
        """
        ...

    def leave(self, visit: Visit, at_ms: int, rng: np.random.Generator) -> Arrival | None:
        """Let a visit be over; return who comes in its stead, if anybody does.

        Args:
            visit: as it was left.
            at_ms: when; whoever comes, comes at this time or later.
            rng: of the swarm.
        """
        ...


class Rush:
    """As many present as asked for, each by chance, as often as chance has it."""

    def __init__(self, viewers: Sequence[Viewer], n_present: int) -> None:
        """Take these people.

        Args:
            viewers: more than `n_present`; they keep what they remember from before.
            n_present: visits at a time.

        Raises:
            ValueError: they are not more.
        """
        if len(viewers) <= n_present:
            raise ValueError(f"expected more than {n_present} viewers, got {len(viewers)}")
        self._viewers = viewers
        self._n_present = n_present
        self._absent = list(range(len(viewers)))
        self._left_ms: dict[int, int] = {}

    def begin(self, at_ms: int, rng: np.random.Generator) -> list[Arrival]:
        """See `Attendance.begin`."""
        return [self._arrive(at_ms, rng) for _ in range(self._n_present)]

    def leave(self, visit: Visit, at_ms: int, rng: np.random.Generator) -> Arrival:
        """See `Attendance.leave`; somebody comes always."""
        self._left_ms[visit.place] = at_ms
        self._absent.append(visit.place)
        return self._arrive(at_ms, rng)

    def _arrive(self, at_ms: int, rng: np.random.Generator) -> Arrival:
        """Let somebody who is away come within a while."""
        k = int(rng.integers(len(self._absent)))
        place = self._absent[k]
        self._absent[k] = self._absent[-1]
        self._absent.pop()
        viewer = self._viewers[place]
        comes_ms = at_ms + int(rng.integers(ARRIVAL_SPREAD_MS))
        if place in self._left_ms:
            viewer.rest((comes_ms - self._left_ms[place]) / DAY_MS)
        return Arrival(place, viewer, comes_ms, SceneBody(network=pick_network(rng)))


def pick_network(rng: np.random.Generator) -> str:
    """Return what somebody is connected by."""
    return NETWORKS[int(rng.integers(len(NETWORKS)))]
