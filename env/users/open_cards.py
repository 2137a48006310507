"""Delivered cards that feedback may still come for, and what each has told of its user so far.

An open card merges its feedback as the join does (the longest dwell, any event means seen) and
turns it into one signal, so that a user's state can move by the difference between what a card
says now and what it said before: the same report twice moves nothing, a longer one corrects.

Rejected: the reward as the signal (its weights belong to the operator and may change; an interest
has to be comparable over the life of a state), and keeping whole cards (three times the bytes).
"""

import math

import msgspec

from env.columns.scales import bait_beyond_mean
from env.columns.schema import VECTOR_DIM
from env.items.content import MAX_TAGS, fold_tag
from env.records import Card, FeedbackKind, PageRecord, item_key
from env.reward import is_long_view, is_valid_play
from env.vocabulary import CreatorId, PageId, SessionId

PAGE_OPEN_MS = 60 * 60_000
"""A page is open this long, or until later pages push it out; the join waits as long."""

MAX_CARDS = 48

MAX_DWELL_S = 3600.0

_BIT: dict[FeedbackKind, int] = {
    "like": 1,
    "comment": 2,
    "share": 4,
    "follow": 8,
    "not_interested": 16,
    "product_click": 32,
}

SIGNALS: dict[FeedbackKind, float] = {
    "like": 1.0,
    "comment": 1.0,
    "share": 1.5,
    "follow": 1.0,
    "not_interested": -2.0,
    "product_click": 0.5,
}
"""What events say about interest."""

_SIGNAL = {_BIT[kind]: signal for kind, signal in SIGNALS.items()}

_SUMS = [sum(s for bit, s in _SIGNAL.items() if events & bit) for events in range(64)]
"""By the events of a card, added in the order of `SIGNALS`."""


class OpenCard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivered card that feedback may still come for.

    Attributes:
        slot: on its page.
        key: `env.records.item_key` of its item.
        vector: its content vector, float16 bytes; empty: zero.
        duration_s: 0 where unknown.
        impressed: it was on screen.
        answered: a dwell or its end was reported, so that its watching counts.
        events: bits of the events reported.
        dwell_s: the longest reported, at most `MAX_DWELL_S`.
        usual: what this user's watching was when the card was first answered, in [0, 1].
        sound: id of its music; empty where unknown. From here on rows from before decode.
        bait: of its item, from `env.columns.scales.MEAN_BAIT` on; 0 where unknown.
    """

    slot: int
    key: int
    vector: bytes
    creator: CreatorId
    tags: tuple[str, ...]
    duration_s: float
    impressed: bool = False
    answered: bool = False
    events: int = 0
    dwell_s: float = 0.0
    usual: float = 0.0
    sound: str = ""
    bait: float = 0.0

    @property
    def played(self) -> bool:
        """Whether the card is known to have been a valid play."""
        return self.answered and is_valid_play(self.dwell_s, self.duration_s)

    @property
    def watch(self) -> float:
        """Half for a valid play, half for a long view; 0 while nothing is known."""
        long = self.answered and is_long_view(self.dwell_s, self.duration_s)
        return 0.5 * self.played + 0.5 * long

    @property
    def signal(self) -> float:
        """What the card says about interest: watching beyond the usual, and the events."""
        beyond = self.watch - self.usual if self.answered else 0.0
        return beyond + _SUMS[self.events]

    @property
    def unwanted(self) -> bool:
        """Whether the user said that it is not of interest."""
        return bool(self.events & _BIT["not_interested"])


class OpenPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivered page, its cards in slot order."""

    page_id: PageId
    session: SessionId
    at_ms: int
    cards: tuple[OpenCard, ...]


def open_page(record: PageRecord) -> OpenPage:
    """Return a page as it was delivered, with no feedback yet."""
    drawn = zip(record.drawn, record.cards, strict=True)
    cards = tuple(_open_card(place.slot, card) for place, card in drawn)
    return OpenPage(record.page_id, record.session, record.at_ms, cards)


def hear(card: OpenCard, kind: FeedbackKind, value: float, usual: float) -> OpenCard:
    """Return the card after one more event about it; any event means that it was on screen.

    Args:
        card: before.
        kind: of the event.
        value: seconds for a dwell; one that is not a finite positive number says nothing.
        usual: what this user's watching is by now, in [0, 1].
    """
    answers = kind in ("dwell", "leave")
    sane = kind == "dwell" and math.isfinite(value)
    return msgspec.structs.replace(
        card,
        impressed=True,
        answered=card.answered or answers,
        events=card.events | _BIT.get(kind, 0),
        dwell_s=max(card.dwell_s, min(value, MAX_DWELL_S)) if sane else card.dwell_s,
        usual=usual if answers and not card.answered else card.usual,
    )


def still_open(pages: tuple[OpenPage, ...], now_ms: int) -> tuple[OpenPage, ...]:
    """Return the pages that are kept: young, and the last two or as many as hold `MAX_CARDS`."""
    young = [page for page in pages if is_open(page, now_ms)]
    n_cards = sum(len(page.cards) for page in young)
    while len(young) > 2 and n_cards > MAX_CARDS:
        n_cards -= len(young.pop(0).cards)
    return tuple(young)


def find_card(pages: tuple[OpenPage, ...], decision: str) -> tuple[int, int] | None:
    """Return the place of a decision's card as (page, card); None where it is not open."""
    page_id, _, slot = decision.rpartition(":")
    for at, page in enumerate(pages):
        if page.page_id == page_id:
            for place, card in enumerate(page.cards):
                if str(card.slot) == slot:
                    return at, place
    return None


def put_card(
    pages: tuple[OpenPage, ...], place: tuple[int, int], card: OpenCard
) -> tuple[OpenPage, ...]:
    """Return the pages with the card at a place exchanged."""
    at, i = place
    page = pages[at]
    cards = (*page.cards[:i], card, *page.cards[i + 1 :])
    return (*pages[:at], msgspec.structs.replace(page, cards=cards), *pages[at + 1 :])


def is_open(page: OpenPage, now_ms: int) -> bool:
    """Return whether feedback may still come for a page."""
    return page.at_ms > now_ms - PAGE_OPEN_MS


def _open_card(slot: int, card: Card) -> OpenCard:
    return OpenCard(
        slot=slot,
        key=item_key(card.item_id),
        vector=card.block[: 2 * VECTOR_DIM],
        creator=card.creator,
        tags=tuple(filter(None, map(fold_tag, card.tags)))[:MAX_TAGS],
        duration_s=card.duration_s,
        sound=card.sound,
        bait=bait_beyond_mean(card.bait),
    )
