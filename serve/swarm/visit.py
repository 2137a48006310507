"""A visit of a simulated user, and the events that a client reports for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from env.feedback import DRAWN_REACTIONS
from env.records import FeedbackKind
from env.vocabulary import Feedback
from env.world.user import SimulatedUser
from serve.wire.feed import CardBody, Event, SceneBody

Told = tuple[FeedbackKind, float | None]
"""Kind and value of an event."""


@dataclass(slots=True)
class SwarmVisit:
    """A simulated user in front of the feed.

    Attributes:
        number: number of the visit in its swarm.
        session: session id on the server.
        place: index of the user in the attendance.
        scene: scene of the visit, without the time.
        cards: cards fetched and not shown yet.
        shown: current impression; None before the first and after the last.
        answer: simulated response to it.
        shown_ms: start of the impression.
        ends_ms: end of the impression.
    """

    number: int
    session: str
    place: int
    user: SimulatedUser
    scene: SceneBody
    rng: np.random.Generator
    cards: list[CardBody] = field(default_factory=list)
    shown: CardBody | None = None
    answer: Feedback = field(default_factory=Feedback)
    shown_ms: int = 0
    ends_ms: int = 0
    n_events: int = 0

    def report(self, what: Sequence[Told], at_ms: int) -> list[Event]:
        """Return the events for the current impression."""
        decision = self.shown.decision_id if self.shown else ""
        events = []
        for kind, value in what:
            self.n_events += 1
            event_id = f"{self.number}-{self.n_events}"
            events.append(Event(event_id, decision, kind, at_ms, value))
        return events


def answered(answer: Feedback) -> list[Told]:
    """Return the events that a client reports when a card is swiped away."""
    did = [kind for kind in DRAWN_REACTIONS if getattr(answer, kind)]
    return [("dwell", round(answer.dwell_s, 3)), *((kind, None) for kind in did)]
