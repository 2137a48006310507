"""What a picture of one moment in front of the feed shows, as plain values; and in a few words.

The environment makes a `Still` of its arrays when it is asked to render, and both renderings, the
lines here and the frame of `env.render`, are of nothing else.
"""

import msgspec

from env.palette import TOPIC_NAMES

N_BLOCKS = 20


class Card(msgspec.Struct, frozen=True):
    """A card as it was shown.

    Attributes:
        topic: in [0, N_TOPICS).
        duration_s: 0 where unknown.
        language: ISO 639 code; empty where unknown.
        like_share: of those who saw it so far; None if nobody did.
        bait: true one, in [0, 1]; hidden from the server.
    """

    serial: int
    topic: int
    duration_s: float
    creator: int
    language: str
    exposures: int
    like_share: float | None
    bait: float


class Reply(msgspec.Struct, frozen=True):
    """What the person did about it."""

    watch_s: float
    like: bool = False
    comment: bool = False
    share: bool = False
    follow: bool = False
    not_interested: bool = False

    def words(self) -> tuple[str, ...]:
        """Return what they did beside watching.

        >>> Reply(3.0, like=True, share=True).words()
        ('like', 'share')
        """
        named = ("like", "comment", "share", "follow", "not_interested")
        return tuple(name.replace("_", " ") for name in named if getattr(self, name))


class Swipe(msgspec.Struct, frozen=True):
    """A card with the reply to it."""

    card: Card
    reply: Reply


class Still(msgspec.Struct, frozen=True):
    """One person at one moment.

    Attributes:
        seed: of the life.
        day: of the episode, from 0; of the card that is awaited.
        hour: of the visit, in [0, 24).
        session: number of the visit, from 1.
        swipes: of the visit that `last` is part of, oldest first.
        satisfaction: in [0, 1], hidden from the server, as the next two.
        load: mental, >= 0.
        satiation: by topic, shape (N_TOPICS,), >= 0.
        gap_days: until the next visit, where the last card ended one; else 0.
        has_churned: they never return.
        visits: days of the episode with a visit so far.
    """

    seed: int
    cohort: str
    country: str
    language: str
    device: str
    tenure_days: int
    day: int
    horizon_days: int
    hour: float
    session: int
    swipes: tuple[Swipe, ...]
    satisfaction: float
    load: float
    satiation: tuple[float, ...]
    gap_days: int = 0
    has_churned: bool = False
    visits: tuple[int, ...] = ()

    @property
    def last(self) -> Swipe | None:
        """The last card with its reply; None before the first of an episode."""
        return self.swipes[-1] if self.swipes else None

    @property
    def watched_s(self) -> float:
        """Seconds watched in this visit."""
        return sum(swipe.reply.watch_s for swipe in self.swipes)

    def fullest(self) -> list[int]:
        """Return the topics by how much the person has had of them, most first."""
        return sorted(range(len(self.satiation)), key=lambda g: (-self.satiation[g], g))

    def ending(self) -> str:
        """Return how the visit ended; empty while it goes on."""
        if self.has_churned:
            return "left for good"
        if self.gap_days:
            return f"left, back in {count(self.gap_days, 'day')}"
        return ""


def render_lines(still: Still) -> str:
    """Return a still as text: who and when, the card, what they did, the session, the hidden state.

    Returns:
        Five lines, the last with its end.
    """
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
            f"{when}: person {still.seed} ({who}; {since})",
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
    """Return a length of time, short.

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


def _tell_last(still: Still) -> tuple[str, str]:
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


def _blocks(still: Still) -> str:
    """Return a mark for each of the last cards: # watched beyond 18 s, + beyond 7 s, . skipped."""
    marks = []
    for swipe in still.swipes[-N_BLOCKS:]:
        watch_s = swipe.reply.watch_s
        marks.append("#" if watch_s >= 18.0 else "+" if watch_s > 7.0 else ".")
    return "".join(marks) or "-"
