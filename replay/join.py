"""The join: a fold of the log that turns pages and their feedback into closed Interactions.

A page opens its decisions; feedback is merged into the decision that it is about; the decision
closes when nothing more is waited for. It closes a settling time after the card was left (the
session's next impression, or `leave`), else twice the item's duration plus a minute after the
last word (clients report a dwell every 10 s, so silence means that nobody is there); then its end
is unknown and the reader asks `env.reward.is_censored`. A decision without an impression says
nothing and is dropped when its page is an hour old.

Time is the greatest `at_ms` folded so far, never the wall clock. Interactions come out by
deadline, then page, then slot, and carry their deadline as `closed_ms`; so neither ticks nor the
way the log was cut into batches change what comes out, and a join restored from its bytes goes on
exactly as if it had never stopped.

Rejected: closing a fixed minute after the impression (on KuaiRand 59% of all watch time is in
views longer than that, so the best cards would be cut), and trusting the clients' clocks.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Self

import msgspec
from msgspec.structs import replace

from env.records import (
    BlockRecord,
    FeedbackRecord,
    ItemRecord,
    LogLine,
    PageRecord,
    Record,
    TickRecord,
    UserRecord,
)
from env.reward import Reward, is_censored
from env.vocabulary import Interaction, PageId, SessionId, UserKey, split_decision_id
from replay.open_pages import OpenPage, close, merge, open_page, patience_ms

SETTLE_MS = 2_000
LATE_MS = 3_600_000


class Counts(msgspec.Struct, array_like=True):
    """What became of all that was folded.

    Attributes:
        pages: that opened.
        decisions: that these pages drew.
        seen: decisions of which any feedback came.
        closed: decisions that became Interactions.
        censored: those of the closed whose dwell is unknown.
        never_seen: decisions that were dropped without any feedback.
        late: feedback about no open decision; it came too late, or its page is not in the log.
        ticks: records that only moved the clock.
    """

    pages: int = 0
    decisions: int = 0
    seen: int = 0
    closed: int = 0
    censored: int = 0
    never_seen: int = 0
    late: int = 0
    ticks: int = 0


class _State(msgspec.Struct, array_like=True, tag="join/1"):
    """All that the join remembers; a change of its shape changes the tag.

    `on_screen` holds, visit by visit, the open decision that was shown last.
    """

    clock_ms: int
    counts: Counts
    pages: dict[PageId, OpenPage]
    on_screen: dict[tuple[UserKey, SessionId], tuple[PageId, int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_State)

_UNSEEN = -1  # in place of a slot: a deadline of all decisions of a page that no user saw


class Join:
    """Folds records into Interactions; what it remembers is small: drawn cards, no candidates."""

    def __init__(self, reward: Reward, *, settle_ms: int = SETTLE_MS, grace_ms: int = 0) -> None:
        """Start before the first record.

        Args:
            reward: what a decision was worth.
            settle_ms: how long feedback may follow the end of a card.
            grace_ms: how much longer a decision stays open for late feedback after its deadline.
        """
        self._reward = reward
        self._settle_ms = settle_ms
        self._grace_ms = grace_ms
        self._state = _State(0, Counts(), {}, {})
        # (time, page order, slot, page): when to look at what. It follows from the state: a
        # deadline that has moved on meanwhile is put back when its old time comes.
        self._agenda: list[tuple[int, int, int, PageId]] = []

    @classmethod
    def from_bytes(
        cls, data: bytes, reward: Reward, *, settle_ms: int = SETTLE_MS, grace_ms: int = 0
    ) -> Self:
        """Return the join that `to_bytes` wrote; the arguments are those that it was made with.

        Raises:
            msgspec.ValidationError: the bytes are not the state of a join of this version.
            msgspec.DecodeError: the bytes are not msgpack.
        """
        join = cls(reward, settle_ms=settle_ms, grace_ms=grace_ms)
        join._state = _decoder.decode(data)
        for page in join._state.pages.values():
            join._plan(page, _UNSEEN, page.expires_ms)
            for slot, decision in page.decisions.items():
                if decision.feedback.seen:
                    join._plan(page, slot, decision.deadline_ms)
        return join

    def to_bytes(self) -> bytes:
        """Return the state; the same records give the same bytes, however often interrupted."""
        return _encoder.encode(self._state)

    @property
    def counts(self) -> Counts:
        """What became of all that was folded so far."""
        return replace(self._state.counts)

    @property
    def clock_ms(self) -> int:
        """The greatest time folded so far."""
        return self._state.clock_ms

    @property
    def n_waiting(self) -> int:
        """How many decisions were seen and have not closed: those that a tick may close."""
        return self._state.counts.seen - self._state.counts.closed

    def is_open(self, page_id: PageId) -> bool:
        """Whether some decision of a page may still close."""
        return page_id in self._state.pages

    def fold(self, record: Record) -> list[Interaction]:
        """Move on by one record; return what its time closed, without what it says itself."""
        now_ms = self._state.clock_ms = max(self._state.clock_ms, record.at_ms)
        is_due = self._agenda and self._agenda[0][0] <= now_ms
        closed = list(self._close_until(now_ms)) if is_due else []
        match record:
            case PageRecord():
                self._open(record)
            case FeedbackRecord():
                self._hear(record)
            case TickRecord():
                self._state.counts.ticks += 1
            case ItemRecord() | UserRecord() | BlockRecord():
                pass  # matters of other folds; here only their time counts
        return closed

    def flush(self) -> list[Interaction]:
        """Close all that is open, as if time had passed and nothing more had been said."""
        closed: list[Interaction] = []
        while self._agenda:
            closed += self._close_until(self._agenda[0][0])
        return closed

    def _open(self, record: PageRecord) -> None:
        counts = self._state.counts
        counts.pages += 1
        counts.decisions += len(record.drawn)
        page = open_page(record, order=counts.pages)
        self._state.pages[page.page_id] = page
        self._plan(page, _UNSEEN, page.expires_ms)

    def _hear(self, record: FeedbackRecord) -> None:
        page_id, slot = split_decision_id(record.decision_id)
        page = self._state.pages.get(page_id)
        if page is None or slot not in page.decisions:
            self._state.counts.late += 1
            if record.kind in {"impression", "leave"}:
                self._leave_screen((record.user, record.session))
            return
        self._merge(page, slot, record)
        if record.kind == "impression":
            self._show(page, slot)
        elif record.kind == "leave":
            self._leave_screen(page.visit)
            self._end(page, slot)

    def _merge(self, page: OpenPage, slot: int, record: FeedbackRecord) -> None:
        decision = page.decisions[slot]
        is_first = not decision.feedback.seen
        decision.feedback = merge(decision.feedback, record)
        if not decision.feedback.left:
            decision.deadline_ms = self._state.clock_ms + patience_ms(decision.duration_s)
        if is_first:
            self._state.counts.seen += 1
            self._plan(page, slot, decision.deadline_ms)

    def _show(self, page: OpenPage, slot: int) -> None:
        """Put a card on its visit's screen, which ends the one that was there."""
        is_first, page.decisions[slot].impressed = not page.decisions[slot].impressed, True
        before = self._state.on_screen.get(page.visit)
        if before == (page.page_id, slot):
            return
        if before and is_first and (page.order, slot) < (self._order(before), before[1]):
            # Cards come in order, so this news was overtaken by that of a later card: a user
            # who really goes back sees a card for the second time.
            self._end(page, slot)
            return
        self._leave_screen(page.visit)
        self._state.on_screen[page.visit] = (page.page_id, slot)

    def _leave_screen(self, visit: tuple[UserKey, SessionId]) -> None:
        shown = self._state.on_screen.pop(visit, None)
        if shown is not None:
            page_id, slot = shown
            self._end(self._state.pages[page_id], slot)

    def _end(self, page: OpenPage, slot: int) -> None:
        decision = page.decisions[slot]
        if not decision.feedback.left:
            decision.feedback = replace(decision.feedback, left=True)
            decision.deadline_ms = self._state.clock_ms + self._settle_ms
            self._plan(page, slot, decision.deadline_ms)

    def _order(self, shown: tuple[PageId, int]) -> int:
        return self._state.pages[shown[0]].order

    def _plan(self, page: OpenPage, slot: int, deadline_ms: int) -> None:
        at_ms = deadline_ms + self._grace_ms
        heapq.heappush(self._agenda, (at_ms, page.order, slot, page.page_id))

    def _close_until(self, now_ms: int) -> Iterator[Interaction]:
        while self._agenda and self._agenda[0][0] <= now_ms:
            at_ms, _, slot, page_id = heapq.heappop(self._agenda)
            page = self._state.pages.get(page_id)
            if page is None:
                continue
            if slot == _UNSEEN:
                self._drop_unseen(page)
            elif decision := page.decisions.get(slot):
                if decision.deadline_ms + self._grace_ms > at_ms:
                    self._plan(page, slot, decision.deadline_ms)
                else:
                    yield self._close(page, slot)

    def _close(self, page: OpenPage, slot: int) -> Interaction:
        interaction = close(page, slot, self._reward)
        self._state.counts.closed += 1
        self._state.counts.censored += is_censored(interaction.feedback, interaction.duration_s)
        if self._state.on_screen.get(page.visit) == (page.page_id, slot):
            del self._state.on_screen[page.visit]
        self._forget(page, [slot])
        return interaction

    def _drop_unseen(self, page: OpenPage) -> None:
        unseen = [slot for slot, d in page.decisions.items() if not d.feedback.seen]
        self._state.counts.never_seen += len(unseen)
        self._forget(page, unseen)

    def _forget(self, page: OpenPage, slots: list[int]) -> None:
        for slot in slots:
            del page.decisions[slot]
        if not page.decisions:
            del self._state.pages[page.page_id]


def join_all(
    lines: Iterable[LogLine],
    reward: Reward,
    *,
    settle_ms: int = SETTLE_MS,
    grace_ms: int = LATE_MS,
) -> Iterator[Interaction]:
    """Yield the Interactions of a log that has ended, in the order of their deadlines.

    Offline there is time: what comes too late for the online join still counts here, be it
    feedback or the end of a card. Where nothing came late, both give the same Interactions.

    Args:
        lines: of the log, in order, from its beginning.
        reward: what a decision was worth.
        settle_ms: as the online join had it.
        grace_ms: how late feedback may come after a decision's deadline.
    """
    join = Join(reward, settle_ms=settle_ms, grace_ms=grace_ms)
    for line in lines:
        yield from join.fold(line.record)
    yield from join.flush()
