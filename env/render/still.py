"""One moment of a simulation as plain values, and its rendering as text.

An environment makes a `Moment` from its arrays when it renders. Both renderings, the text lines
here and the image of `env.render.render`, use nothing else.
"""

import msgspec

from env.feedback import DRAWN_REACTIONS
from env.render.palette import TOPIC_NAMES

N_BLOCKS = 20


class StillCard(msgspec.Struct, frozen=True):
    """A card as it was shown."""

    serial: int
    topic: int  # in [0, N_TOPICS)
    duration_s: float  # 0 where unknown
    creator: int
    language: str  # ISO 639 code; empty where unknown
    exposures: int
    like_share: float | None  # of its exposures so far; None without exposures
    bait: float  # true bait, in [0, 1]; hidden from the server


class StillResponse(msgspec.Struct, frozen=True):
    """The user's response to a card."""

    watch_s: float
    like: bool = False
    comment: bool = False
    share: bool = False
    follow: bool = False
    not_interested: bool = False

    def words(self) -> tuple[str, ...]:
        """Return the reactions beside watching.

        >>> StillResponse(3.0, like=True, share=True).words()
        ('like', 'share')
        """
        return tuple(name.replace("_", " ") for name in DRAWN_REACTIONS if getattr(self, name))


class Swipe(msgspec.Struct, frozen=True):
    """A card with the response to it."""

    card: StillCard
    reply: StillResponse


class Moment(msgspec.Struct, frozen=True):
    """One simulated user at one moment."""

    seed: int  # of the life
    cohort: str
    country: str
    language: str
    device: str
    tenure_days: int
    day: int  # of the episode, from 0, of the next card
    horizon_days: int
    hour: float  # of the visit, in [0, 24)
    session: int  # number of the visit, from 1
    swipes: tuple[Swipe, ...]  # of the visit of `last`, oldest first
    satisfaction: float  # in [0, 1], hidden from the server
    load: float  # mental, >= 0, hidden from the server
    satiation: tuple[float, ...]  # (N_TOPICS,) >= 0, hidden from the server
    gap_days: int = 0  # until the next visit, if the last card ended one; else 0
    has_churned: bool = False  # the user never returns
    visits: tuple[int, ...] = ()  # days of the episode with a visit so far

    @property
    def last(self) -> Swipe | None:
        """The last card with its response; None before the first of an episode."""
        return self.swipes[-1] if self.swipes else None

    @property
    def watched_s(self) -> float:
        """Seconds watched in this visit."""
        return sum(swipe.reply.watch_s for swipe in self.swipes)

    def fullest(self) -> list[int]:
        """Return the topics by satiation, highest first."""
        return sorted(range(len(self.satiation)), key=lambda g: (-self.satiation[g], g))

    def ending(self) -> str:
        """Return the visit's ending; empty while it goes on."""
        if self.has_churned:
            return "left for good"
        if self.gap_days:
            return f"left, back in {count(self.gap_days, 'day')}"
        return ""


def render_lines(still: Moment) -> str:
    """Return a still as five lines: user and time, card, response, session and hidden state."""
    who = ", ".join(x for x in (still.cohort, still.country, still.language, still.device) if x)
    since = f"registered {count(still.tenure_days, 'day')} ago" if still.tenure_days else "new"
    topics = [g for g in still.fullest() if still.satiation[g] >= 0.05][:3]
    full = ", ".join(f"{TOPIC_NAMES[g]} {still.satiation[g]:.1f}" for g in topics) or "nothing"
    when = (
        f"day {still.day + 1} of {still.horizon_days}, {clock(still.hour)}, visit {still.session}"
    )
    so_far = f"{count(len(still.swipes), 'card')}, {span(still.watched_s)}"
    hidden = f"satisfaction {still.satisfaction:.2f}, load {still.load:.1f}, had enough of {full}"
    return "\n".join(
        (
            f"{when}: user {still.seed} ({who}; {since})",
            *_tell_last(still),
            f"so far  {_blocks(still)} {so_far}",
            f"hidden  {hidden}",
            "",
        )
    )


def clock(hour: float) -> str:
    """Return an hour of the day as a clock shows it.

    >>> clock(20.51)
    '20:30'
    """
    minutes = int(hour * 60.0) % 1_440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def span(seconds: float) -> str:
    """Return a duration in short form.

    >>> span(4.26), span(75.0), span(4_000.0)
    ('4.3 s', '1:15 min', '1:06 h')
    """
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def count(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count(1, "day"), count(12, "day")
    ('1 day', '12 days')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _tell_last(still: Moment) -> tuple[str, str]:
    if still.last is None:
        return "card    none yet", "did     opened the app"
    card, reply = still.last.card, still.last.reply
    length = span(card.duration_s) if card.duration_s else "unknown length"
    liked = "" if card.like_share is None else f", liked by {card.like_share:.1%}"
    said = ", ".join((f"watched {span(reply.watch_s)}", *reply.words()))
    ending = f"; {still.ending()}" if still.ending() else ""
    seen = f"{count(card.exposures, 'exposure')}{liked}"
    about = (TOPIC_NAMES[card.topic], length, f"creator {card.creator}", card.language, seen)
    return f"card    {', '.join(word for word in about if word)}", f"did     {said}{ending}"


def _blocks(still: Moment) -> str:
    """Return a mark per recent card: # watched beyond 18 s, + beyond 7 s, . skipped."""
    marks = []
    for swipe in still.swipes[-N_BLOCKS:]:
        watch_s = swipe.reply.watch_s
        marks.append("#" if watch_s >= 18.0 else "+" if watch_s > 7.0 else ".")
    return "".join(marks) or "-"
