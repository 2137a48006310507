"""One visit of a simulated person: what they are shown, and how a client reports what they do."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from env.records import FeedbackKind
from env.viewer import Viewer
from env.vocabulary import Feedback
from serve.wire import CardBody, Event, SceneBody

Told = tuple[FeedbackKind, float | None]
"""A kind of event with its value."""


@dataclass(slots=True)
class Visit:
    """Somebody in front of the feed.

    Attributes:
        number: of the visit within its swarm.
        session: id that the server knows it by.
        place: of the viewer in the swarm's attendance.
        scene: where they are, but for the time.
        cards: fetched and not shown yet.
        shown: on screen; None before the first and after the last.
        answer: what they will have done about it when they swipe on.
        shown_ms: since when.
        ends_ms: until when.
    """

    number: int
    session: str
    place: int
    viewer: Viewer
    scene: SceneBody
    rng: np.random.Generator
    cards: list[CardBody] = field(default_factory=list)
    shown: CardBody | None = None
    answer: Feedback = field(default_factory=Feedback)
    shown_ms: int = 0
    ends_ms: int = 0
    n_events: int = 0

    def report(self, what: Sequence[Told], at_ms: int) -> list[Event]:
        """Return the events that tell something about the card on screen."""
        decision = self.shown.decision_id if self.shown else ""
        events = []
        for kind, value in what:
            self.n_events += 1
            event_id = f"{self.number}-{self.n_events}"
            events.append(Event(event_id, decision, kind, at_ms, value))
        return events


def answered(answer: Feedback) -> list[Told]:
    """Return what a client reports when a card is swiped away."""
    did: tuple[tuple[FeedbackKind, bool], ...] = (
        ("like", answer.like),
        ("comment", answer.comment),
        ("share", answer.share),
        ("follow", answer.follow),
        ("not_interested", answer.not_interested),
    )
    return [("dwell", round(answer.dwell_s, 3)), *((kind, None) for kind, done in did if done)]
