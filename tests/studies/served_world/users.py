"""Simulated users as a server meets them: in front of `Simulation`, each with a state of the log.

A shard is the users who are there at the same time. Each asks for a page; then all are shown the
first card of their page, those who stayed the second, and so on, a vectorised call a card, so that
the exact expected reward of a card is that of the moment at which it is shown. Who leaves opens
another session with the next page; whose life ends gives their place to a user new.

Rejected: a call a page (the expectation of its later cards would be that of the moment at which it
was opened), and `env.world.user` (a Python call a card and user).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from env.records import FeedbackKind, FeedbackRecord, PageRecord
from env.reward import Reward
from env.users import fold as user_fold
from env.users.state import UserState, newcomer
from env.vocabulary import (
    Bools,
    Floats,
    Ints,
    ItemId,
    PageId,
    Profile,
    SessionId,
    UserKey,
    decision_id,
)
from env.world.creators import LANGUAGES
from env.world.generated import MARKETS
from env.world.population import DrawnUsers
from env.world.presets import Preset
from env.world.settings import Settings
from env.world.simulation import EVENTS, Simulation, StepResult
from env.world.supply import Supply
from policies.slots.rules import FAIR_START
from tests.studies.evaluation.worlds import expected_of
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.items import DAY_MS

_WATCH = EVENTS.index("watch_s")

_DONE: tuple[tuple[FeedbackKind, int], ...] = (
    ("like", EVENTS.index("like")),
    ("comment", EVENTS.index("comment")),
    ("share", EVENTS.index("share")),
    ("follow", EVENTS.index("follow")),
    ("not_interested", EVENTS.index("not_interested")),
)

Said = PageRecord | FeedbackRecord

RowOf = Callable[[ItemId], int]
"""Finds an item's row in the stock."""


def report(
    page: PageRecord, k: int, said: Sequence[tuple[FeedbackKind, float]], at_ms: int
) -> list[Said]:
    """Return what a client reports of the k-th card of a page.

    Args:
        page: as drawn.
        k: place among the drawn cards.
        said: kinds with their values.
        at_ms: when the server hears of it.
    """
    slot = page.drawn[k].slot
    decision = decision_id(page.page_id, slot)
    return [
        FeedbackRecord(
            event_id=f"{kind}-{slot}",
            decision_id=decision,
            at_ms=at_ms,
            user=page.user,
            session=page.session,
            kind=kind,
            value=value,
        )
        for kind, value in said
    ]


def report_of(page: PageRecord | None, k: int, events: Floats, at_ms: int) -> list[Said]:
    """Return how long a card was watched, what was done about it, and that it was left.

    Args:
        page: as drawn; None: nothing could be shown.
        k: place among the drawn cards.
        events: that came of it, shape (len(EVENTS),).
        at_ms: when the server hears of it.
    """
    if page is None:
        return []
    done: list[tuple[FeedbackKind, float]] = [(kind, 0.0) for kind, e in _DONE if events[e]]
    return report(page, k, [("dwell", float(events[_WATCH])), *done, ("leave", 0.0)], at_ms)


def columns_of(pages: Sequence[PageRecord | None], row_of: RowOf) -> tuple[Ints, Bools, Ints]:
    """Return rows of the items, whether slots are reserved, shapes (n, m), and cards, (n,)."""
    n_cards = np.array([0 if page is None else len(page.drawn) for page in pages])
    shape = len(pages), max(int(n_cards.max()), 1)
    rows, reserved = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    for place, page in enumerate(pages):
        if page is not None:
            rows[place, : n_cards[place]] = [row_of(card.item_id) for card in page.cards]
            reserved[place, : n_cards[place]] = _reserved_slots(page)
    return rows, reserved, n_cards


def _reserved_slots(page: PageRecord) -> list[bool]:
    """Return whether the slot of each drawn card was reserved for uploads."""
    is_reserved = [rule.name == FAIR_START for rule in page.rules]
    return [is_reserved[page.slots[drawn.slot]] for drawn in page.drawn]


NEVER = 2**62
"""Turns until the supply's next day: whoever serves the feed moves the supply."""

N_CANDIDATES = 2
"""That Swiping draws and nobody looks at: the least that it can be told."""

_ENGAGEMENT = EVENTS.index("engagement")


@dataclass(slots=True)
class Person:
    """A user as the server knows them.

    Attributes:
        origin: where their requests come from, see `Scene.origin`.
        n_pages: that they have asked for.
        n_sessions: that they have opened.
    """

    key: UserKey
    state: UserState
    origin: str
    n_pages: int = 0
    n_sessions: int = 1

    @property
    def session(self) -> SessionId:
        """Id of the session under way."""
        return SessionId(f"{self.key}/{self.n_sessions}")

    def turn_page(self) -> PageId:
        """Return the id of their next page."""
        self.n_pages += 1
        return PageId(f"{self.key}/{self.n_pages}")

    def hear(self, records: Sequence[Said]) -> None:
        """Fold what the log says of them."""
        for record in records:
            self.state = user_fold.fold(self.state, record) or self.state


Draw = Callable[[Person], PageRecord | None]
"""Draws a page for a user who asks; None: nothing may be shown."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a turn of a shard comes to: records in the order of their times, and cards."""

    records: list[Said]
    shown: Shown


class Shard:
    """Users who are there at the same time.

    Attributes:
        users: by place.
        first_place: number of the first place within the world.
        life: number of the life in each place, from 0.
        swiping: with what is hidden from the server.
    """

    def __init__(
        self,
        preset: Preset,
        supply: Supply,
        reward: Reward,
        *,
        seeds: Ints,
        first_place: int,
        now_ms: int,
        are_new: bool = False,
    ) -> None:
        """Let users move in who have not been shown anything.

        Args:
            preset: of the world.
            supply: of the world, moved by others.
            reward: whose expectation is written down.
            seeds: of the places, shape (n,).
            first_place: number of the first place within the world.
            now_ms: the server's time.
            are_new: whether all registered just now; else as long ago as the world says.
        """
        n = len(seeds)
        self._cast = DrawnUsers(preset)
        settings = Settings(n_candidates=N_CANDIDATES, steps_per_day=NEVER)
        self.swiping = Simulation(preset, self._cast, supply, settings, reward, n)
        self.swiping.restart(seeds)
        self._preset, self._reward, self._are_new = preset, reward, are_new
        self.first_place = first_place
        self.life: Ints = np.zeros(n, dtype=np.int64)
        self.users: list[Person] = [self._meet(place, now_ms) for place in range(n)]

    def begin_visit(self) -> None:
        """Open a session for everybody, as users do who come back."""
        for user in self.users:
            user.n_sessions += 1

    def recognise(self, users: Sequence[Person]) -> None:
        """Let the server know the users here as it knows those of the same places elsewhere.

        Args:
            users: of the same seeds and places; they stay as they are.
        """
        self.users = [replace(user) for user in users]
        self.begin_visit()

    def turn(self, draw: Draw, row_of: RowOf, *, now_ms: int, card_ms: int) -> Heard:
        """Let everybody ask for a page, and answer its cards, see `ask` and `answer`."""
        return self.answer(self.ask(draw), row_of, now_ms=now_ms, card_ms=card_ms)

    def ask(self, draw: Draw) -> list[PageRecord | None]:
        """Let everybody ask for a page, and return these by place; nothing else moves.

        Args:
            draw: the server.
        """
        return [draw(user) for user in self.users]

    def worth_of(self, pages: Sequence[PageRecord | None], row_of: RowOf) -> tuple[Floats, Ints]:
        """Return what whole pages are exactly expected to earn of users as they are now.

        Args:
            pages: by place.
            row_of: of the supply's stock.

        Returns:
            The sum over each page's cards, and how many these are, shapes (n,).
        """
        rows, _, n_cards = columns_of(pages, row_of)
        expected = self._expected(rows)
        expected[np.arange(rows.shape[1]) >= n_cards[:, None]] = 0.0
        return expected.sum(axis=1), n_cards

    def answer(
        self, pages: Sequence[PageRecord | None], row_of: RowOf, *, now_ms: int, card_ms: int
    ) -> Heard:
        """Let everybody answer the cards of a page until they leave or it is over.

        Args:
            pages: that were just asked for, by place.
            row_of: of the supply's stock.
            now_ms: when pages are asked for.
            card_ms: that a card takes on the server's clock: the same for all, so that what is
                reported is in order without being sorted. The dwell is the user's own.
        """
        heard: list[list[Said]] = [[] if page is None else [page] for page in pages]
        records: list[Said] = [page for page in pages if page is not None]
        rows, reserved, n_cards = columns_of(pages, row_of)
        left, ended = np.zeros((2, len(pages)), dtype=np.bool_)
        parts = []
        for k in range(rows.shape[1]):
            present = (n_cards > k) & ~left
            at_ms = now_ms + (k + 1) * card_ms
            shown, turn = self._show(rows[:, k], reserved[:, k], present, at_ms)
            parts.append(shown)
            for place in np.flatnonzero(present).tolist():
                said = report_of(pages[place], k, turn.events[0, :, place], at_ms)
                heard[place] += said
                records += said
            left |= turn.session_end
            ended |= turn.terminated | turn.truncated
        self._go_on(heard, left, ended, now_ms + card_ms * rows.shape[1])
        return Heard(records, Shown.join(parts))

    def _show(
        self, rows: Ints, reserved: Bools, present: Bools, at_ms: int
    ) -> tuple[Shown, StepResult]:
        """Show a card to those who are present; return what was seen, and all that came of it."""
        swiping, seen = self.swiping, np.flatnonzero(present)
        expected = self._expected(rows[:, None])
        market = swiping.crowd.users.market[seen]
        turn = swiping.show(rows[:, None], present)
        shown = Shown(
            at_ms=np.full(len(seen), at_ms),
            place=self.first_place + seen,
            life=self.life[seen],
            market=market,
            row=rows[seen],
            reserved=reserved[seen],
            expected=expected[seen, 0],
            reward=turn.events[0, _ENGAGEMENT, seen],
        )
        return shown, turn

    def _expected(self, rows: Ints) -> Floats:
        """Return the exact expected reward of items to users as they are now, shape (n, k)."""
        swiping = self.swiping
        return expected_of(swiping.crowd, swiping.stock, rows, self._preset, self._reward)

    def _go_on(
        self, heard: Sequence[Sequence[Said]], left: Bools, ended: Bools, now_ms: int
    ) -> None:
        """Fold what was heard of users; who left opens a session, who is gone is replaced."""
        if self.swiping.over.any():
            nobody = np.zeros(len(left), dtype=np.bool_)
            self.swiping.show(np.zeros((len(left), 1), dtype=np.int64), nobody)
        self.life += ended
        for place, user in enumerate(self.users):
            if ended[place]:
                self.users[place] = self._meet(place, now_ms)
                continue
            user.hear(heard[place])
            user.n_sessions += int(left[place])

    def _meet(self, place: int, now_ms: int) -> Person:
        cast, users = self._cast, self.swiping.crowd.users
        tenure_days = 0.0 if self._are_new else float(users.tenure_days[place])
        profile = Profile(
            country=MARKETS[users.market[place]].country,
            language=LANGUAGES[users.language[place]],
            device=cast.devices[users.device[place]],
            cohort=cast.cohorts[users.cohort[place]],
            registered_ms=now_ms - round(DAY_MS * tenure_days),
        )
        name = f"{self.first_place + place}.{self.life[place]}"
        return Person(UserKey(name), newcomer(profile), origin=f"home of {name}")
