"""Delivered cards that may still receive feedback, and the interest signal of each.

An open card merges its feedback as the join does (longest dwell, any event means seen) into one
signal. A user's state moves by the change of that signal, so a repeated report changes nothing and
a longer one corrects. Rejected alternatives: `docs/decisions/user-state.md`.
"""

import math

import msgspec

from env.columns.scales import bait_beyond_mean
from env.columns.schema import content_of
from env.feedback import KINDS, ROWS
from env.items.content import MAX_TAGS, fold_tag
from env.records import Card, FeedbackKind, PageRecord, item_key
from env.reward import is_long_view, is_valid_play
from env.vocabulary import CreatorId, PageId, SessionId

PAGE_OPEN_MS = 60 * 60_000
"""A page is open this long, or until later pages push it out; the join waits as long."""

MAX_CARDS = 48
MAX_OTHERS = 8
"""Signals of one card whose interest is not that of a bit: own ones, overridden or taken back."""

MAX_DWELL_S = 3600.0
_BIT = {row.kind: row.bit for row in ROWS if row.bit}
_UNDOES = {row.kind: row.signal.undoes for row in ROWS if row.signal.undoes}
_ANSWERS = frozenset(row.kind for row in ROWS if row.answers)
_SECONDS = frozenset(row.kind for row in ROWS if row.has_seconds)
_TURNS_AWAY = sum(row.bit for row in ROWS if row.consequence == "turn_away")
FOLLOWING = frozenset(row.kind for row in ROWS if row.consequence == "follow_creator")


def _sums() -> list[float]:
    sums = [0.0]
    for row in (row for row in ROWS if row.bit):
        sums += [total + row.signal.interest for total in sums]
    return sums


_SUMS = _sums()
"""Summed interest by event bits, added in the order of `ROWS`."""


class OpenCard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivered card that may still receive feedback."""

    slot: int  # on its page
    key: int  # `env.records.item_key` of its item
    vector: bytes  # its content vector, float16 bytes; empty for zero
    creator: CreatorId
    tags: tuple[str, ...]
    duration_s: float  # 0 where unknown
    impressed: bool = False  # the card was on screen
    answered: bool = False  # a dwell or the card's end was reported, so that its watching counts
    events: int = 0  # bits of the events reported
    dwell_s: float = 0.0  # the longest reported, at most `MAX_DWELL_S`
    usual: float = 0.0  # the user's usual watching when the card was first answered, in [0, 1]
    # id of its music; empty where unknown. Rows older than this field and later ones lack them.
    sound: str = ""
    bait: float = 0.0  # of its item, minus `env.columns.scales.MEAN_BAIT`; 0 where unknown
    language: str = ""  # lower-case; empty where unknown or without words
    # By name, what further events say about interest: those without a bit, and the difference of
    # those with one whose record says another interest than the table.
    others: tuple[tuple[str, float], ...] = ()

    @property
    def played(self) -> bool:
        """Whether the card is known to have been a valid play."""
        return self.answered and is_valid_play(self.dwell_s, self.duration_s)

    @property
    def watch(self) -> float:
        """Half for a valid play plus half for a long view; 0 until known."""
        long = self.answered and is_long_view(self.dwell_s, self.duration_s)
        return 0.5 * self.played + 0.5 * long

    @property
    def signal(self) -> float:
        """The card's interest signal: watching beyond the usual, plus the events."""
        beyond = self.watch - self.usual if self.answered else 0.0
        signal = beyond + _SUMS[self.events]
        for _, interest in self.others:
            signal += interest
        return signal

    @property
    def is_told(self) -> bool:
        """Whether anything beyond the impression was reported."""
        return self.answered or self.events != 0 or bool(self.others)

    @property
    def value(self) -> float:
        """The card's watching plus its events, as `env.users.answers.value_of` says it."""
        value = self.watch + _SUMS[self.events]
        for _, interest in self.others:
            value += interest
        return value

    @property
    def unwanted(self) -> bool:
        """Whether the user reported it as not interesting."""
        return bool(self.events & _TURNS_AWAY)


class OpenPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivered page, its cards in slot order."""

    page_id: PageId
    session: SessionId
    at_ms: int
    cards: tuple[OpenCard, ...]


def open_page(record: PageRecord) -> OpenPage:
    """Return a page as delivered, without feedback."""
    drawn = zip(record.drawn, record.cards, strict=True)
    cards = tuple(open_card(place.slot, card) for place, card in drawn)
    return OpenPage(record.page_id, record.session, record.at_ms, cards)


def hear(
    card: OpenCard,
    kind: FeedbackKind,
    value: float,
    usual: float,
    *,
    interest: float | None = None,
    undoes: FeedbackKind | None = None,
) -> OpenCard:
    """Return the card after one more event; any event means that it was on screen.

    A dwell `value` in seconds is ignored unless finite and positive; `usual` is in [0, 1]. Interest
    and `undoes` are the record's. An unknown kind means nothing beyond the impression.
    """
    if undone := undone_by(kind, undoes):
        card = _without(card, undone)
    elif interest is not None:
        card = _with_interest(card, kind, interest)
    answers = kind in _ANSWERS
    sane = kind in _SECONDS and math.isfinite(value)
    return msgspec.structs.replace(
        card,
        impressed=True,
        answered=card.answered or answers,
        events=card.events | _BIT.get(kind, 0),
        dwell_s=max(card.dwell_s, min(value, MAX_DWELL_S)) if sane else card.dwell_s,
        usual=usual if answers and not card.answered else card.usual,
    )


def undone_by(kind: FeedbackKind, undoes: FeedbackKind | None) -> FeedbackKind:
    """Return the signal that an event takes back; empty: none."""
    return _UNDOES.get(kind, "") if undoes is None else undoes


def _without(card: OpenCard, kind: FeedbackKind) -> OpenCard:
    """Return the card without an event; what was taken back was told, and says nothing."""
    card = msgspec.structs.replace(card, events=card.events & ~_BIT.get(kind, 0))
    return _with_other(card, kind, 0.0)


def _with_interest(card: OpenCard, kind: FeedbackKind, interest: float) -> OpenCard:
    if kind in _BIT:
        interest -= KINDS[kind].signal.interest
    return _with_other(card, kind, interest)


def _with_other(card: OpenCard, kind: FeedbackKind, interest: float) -> OpenCard:
    """Return the card with an interest beside those of its bits, up to `MAX_OTHERS` of them."""
    others = dict(card.others) | {kind: interest}
    if len(others) > MAX_OTHERS:
        return card
    return msgspec.structs.replace(card, others=tuple(sorted(others.items())))


def still_open(pages: tuple[OpenPage, ...], now_ms: int) -> tuple[OpenPage, ...]:
    """Return the pages to keep: recent ones, at least two, otherwise at most `MAX_CARDS` cards."""
    young = [page for page in pages if is_open(page, now_ms)]
    n_cards = sum(len(page.cards) for page in young)
    while len(young) > 2 and n_cards > MAX_CARDS:
        n_cards -= len(young.pop(0).cards)
    return tuple(young)


def find_card(pages: tuple[OpenPage, ...], decision: str) -> tuple[int, int] | None:
    """Return the (page, card) index of a decision's card; None where it is not open."""
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
    """Return the pages with the card at a (page, card) index replaced."""
    at, i = place
    page = pages[at]
    cards = (*page.cards[:i], card, *page.cards[i + 1 :])
    return (*pages[:at], msgspec.structs.replace(page, cards=cards), *pages[at + 1 :])


def is_open(page: OpenPage, now_ms: int) -> bool:
    """Return whether a page may still receive feedback."""
    return page.at_ms > now_ms - PAGE_OPEN_MS


def open_card(slot: int, card: Card) -> OpenCard:
    """Return a card of which nothing was reported."""
    return OpenCard(
        slot=slot,
        key=item_key(card.item_id),
        vector=content_of(card.block),
        creator=card.creator,
        tags=tuple(filter(None, map(fold_tag, card.tags)))[:MAX_TAGS],
        duration_s=card.duration_s,
        sound=card.sound,
        bait=bait_beyond_mean(card.bait),
        language=card.language,
    )
