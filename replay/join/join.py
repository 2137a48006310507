"""The join: a fold of the log that turns pages and their feedback into closed Interactions.

A page opens its decisions, feedback is merged into them, and each closes after a grace period or an
attribution timeout. Time is the greatest `at_ms` folded so far, never the wall clock, so the result
depends neither on ticks nor on how the log was batched. Rules and rejected alternatives:
`docs/decisions/log-join.md`.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import Self

import msgspec
from msgspec.structs import replace

from env.columns.schema import static_of, widened
from env.feedback import DISPLAYS, KINDS, SHIPPED, SignalTally, by_name
from env.records import (
    BlockRecord,
    FeedbackRecord,
    HistoryRecord,
    ItemRecord,
    PageRecord,
    ProjectionRecord,
    Record,
    TickRecord,
    UserRecord,
    item_key,
)
from env.reward import Reward, is_censored
from env.vocabulary import (
    Feedback,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
    decision_id,
    split_decision_id,
)

UNSEEN_MS = 3_600_000
ATTRIBUTION_TIMEOUT_MS = 60_000
UNKNOWN_ATTRIBUTION_TIMEOUT_MS = 120_000


class OpenDecision(msgspec.Struct, array_like=True, gc=False):
    """A decision that waits for feedback."""

    item_id: ItemId
    propensity: float
    n_actions: int  # number of candidates available to its slot
    action: bytes  # float16 bytes, the static block and the dynamic columns of the chosen candidate
    duration_s: float
    feedback: Feedback
    impressed: bool  # an impression was reported; other events imply only that it was seen
    deadline_ms: int  # time at which it closes without further feedback; 0 until it is seen


class JoiningPage(msgspec.Struct, array_like=True):
    """The data shared by the open decisions of a page."""

    page_id: PageId
    order: int  # number of the page in the log, from 1
    user: UserKey
    session: SessionId
    scene: Scene
    shared: bytes
    policy: str
    expires_ms: int  # time at which its unseen decisions are dropped
    decisions: dict[int, OpenDecision]  # the open ones, by slot

    @property
    def visit(self) -> tuple[UserKey, SessionId]:
        """The visit of the page; session ids are unique only within a user."""
        return self.user, self.session


def open_page(record: PageRecord, order: int) -> JoiningPage:
    """Return a new open page, with all its decisions unseen."""
    return JoiningPage(
        page_id=record.page_id,
        order=order,
        user=record.user,
        session=record.session,
        scene=record.scene,
        shared=record.shared,
        policy=record.policy,
        expires_ms=record.at_ms + UNSEEN_MS,
        decisions=_open_decisions(record),
    )


Tallies = Mapping[str, SignalTally]
"""How the signals without a field of their own in `Feedback` merge, by name."""

SHIPPED_TALLIES: Tallies = by_name(SHIPPED.tallies)


def merge(
    feedback: Feedback, record: FeedbackRecord, tallies: Tallies = SHIPPED_TALLIES
) -> Feedback:
    """Return the feedback with one more event: any event means seen, the longest dwell counts.

    The order of events matters only to those that take others back. An event of which the settings
    know nothing means seen. The join decides whether the card was left, because most cards are left
    without a `leave`.
    """
    if not feedback.seen:
        feedback = replace(feedback, seen=True)
    if tally := tallies.get(record.kind):
        return tally.merged(feedback, record.value)
    row = KINDS.get(record.kind)
    if row is None:
        return feedback
    if row.has_seconds:
        return replace(feedback, dwell_s=max(feedback.dwell_s, record.value))
    return replace(feedback, **{row.kind: True}) if row.is_reaction else feedback


def attribution_timeout_ms(duration_s: float) -> int:
    """Return the attribution timeout after the last feedback on a card that was not left.

    >>> attribution_timeout_ms(15.0), attribution_timeout_ms(0.0)
    (90000, 120000)
    """
    if duration_s <= 0.0:
        return UNKNOWN_ATTRIBUTION_TIMEOUT_MS
    return round(2_000 * duration_s) + ATTRIBUTION_TIMEOUT_MS


def close(page: JoiningPage, slot: int, reward: Reward) -> Interaction:
    """Return a decision with its feedback so far; the page is unchanged."""
    decision = page.decisions[slot]
    return Interaction(
        decision_id=decision_id(page.page_id, slot),
        page_id=page.page_id,
        user=page.user,
        session=page.session,
        item_id=decision.item_id,
        slot=slot,
        policy=page.policy,
        propensity=decision.propensity,
        n_actions=decision.n_actions,
        shared=page.shared,
        action=decision.action,
        item_key=item_key(decision.item_id),
        duration_s=decision.duration_s,
        feedback=decision.feedback,
        reward=reward.of(decision.feedback, decision.duration_s),
        scene=page.scene,
        closed_ms=decision.deadline_ms,
    )


def _unreported(page: JoiningPage, slot: int, reward: Reward, default: float) -> Interaction:
    """Return a decision of which nothing was reported, with the reward for that."""
    page.decisions[slot].deadline_ms = page.expires_ms
    return replace(close(page, slot, reward), reward=default)


def _open_decisions(record: PageRecord) -> dict[int, OpenDecision]:
    width = len(record.dynamic) // max(len(record.candidates), 1)
    masks = [int.from_bytes(rule.mask, "little") for rule in record.rules]
    left = -1  # all bits: candidates not taken by earlier slots
    decisions = {}
    for drawn, card in zip(record.drawn, record.cards, strict=True):
        row = record.dynamic[width * drawn.action : width * (drawn.action + 1)]
        decisions[drawn.slot] = OpenDecision(
            item_id=card.item_id,
            propensity=drawn.propensity,
            n_actions=(masks[record.slots[drawn.slot]] & left).bit_count(),
            action=static_of(card.block) + widened(row),
            duration_s=card.duration_s,
            feedback=Feedback(),
            impressed=False,
            deadline_ms=0,
        )
        left &= ~(1 << drawn.action)
    return decisions


SETTLE_MS = 2_000


class JoinCounts(msgspec.Struct, array_like=True):
    """Counts of the folded records and decisions."""

    pages: int = 0  # pages opened
    decisions: int = 0  # decisions that these pages drew
    seen: int = 0  # decisions with any feedback
    closed: int = 0  # decisions that became Interactions
    censored: int = 0  # closed decisions of unknown dwell
    never_seen: int = 0  # decisions dropped without feedback
    late: int = 0  # feedback on no open decision; it came too late, or its page is not in the log
    ticks: int = 0  # records that only advance the clock


class _State(msgspec.Struct, array_like=True, tag="join/1"):
    """The complete state of the join; a change of its shape changes the tag.

    `on_screen` holds the current impression of each visit.
    """

    clock_ms: int
    counts: JoinCounts
    pages: dict[PageId, JoiningPage]
    on_screen: dict[tuple[UserKey, SessionId], tuple[PageId, int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_State)
_UNSEEN = -1  # in place of a slot: a deadline of all decisions of a page that no user saw


class Join:
    """Folds records into Interactions; its state holds drawn cards only, no other candidates."""

    def __init__(
        self,
        reward: Reward,
        *,
        settle_ms: int = SETTLE_MS,
        default_reward: float | None = None,
    ) -> None:
        """Start before the first record.

        Args:
            settle_ms: grace period for feedback after the end of a card.
            default_reward: reward of a card of which nothing was reported; it closes, not `seen`,
                when the time of its page is over. None: it is dropped.
        """
        self.was_late = False
        self._default = default_reward
        self._reward = reward
        self._tallies = by_name(reward.tallies)
        self._settle_ms = settle_ms
        self._state = _State(0, JoinCounts(), {}, {})
        # (time, page order, slot, page): the agenda, which follows from the state: a
        # deadline that has moved on meanwhile is put back when its old time comes.
        self._agenda: list[tuple[int, int, int, PageId]] = []

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        reward: Reward,
        *,
        settle_ms: int = SETTLE_MS,
        default_reward: float | None = None,
    ) -> Self:
        """Return the join that `to_bytes` wrote; the other arguments must be those of that join.

        Bytes that are not such a state raise msgspec.ValidationError or msgspec.DecodeError.
        """
        join = cls(reward, settle_ms=settle_ms, default_reward=default_reward)
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
    def counts(self) -> JoinCounts:
        """Counts of the records folded so far."""
        return replace(self._state.counts)

    @property
    def clock_ms(self) -> int:
        """The greatest time folded so far."""
        return self._state.clock_ms

    @property
    def n_waiting(self) -> int:
        """Number of seen decisions that have not closed, which a tick may close."""
        return self._state.counts.seen - self._state.counts.closed

    def is_open(self, page_id: PageId) -> bool:
        """Return whether any decision of a page may still close."""
        return page_id in self._state.pages

    def fold(self, record: Record) -> list[Interaction]:
        """Fold one record and return the Interactions that its time closed.

        Afterwards `was_late` says whether the record was feedback on no open decision. An imported
        history says nothing of what is open here, and its time closes nothing.
        """
        self.was_late = False
        if isinstance(record, HistoryRecord):
            return []
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
            case ItemRecord() | ProjectionRecord() | UserRecord() | BlockRecord():
                pass  # other folds use these; here only their time counts
        return closed

    def flush(self) -> list[Interaction]:
        """Close all open decisions, as if time had passed without further feedback."""
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
            self.was_late = True
            self._state.counts.late += 1
            if record.kind in DISPLAYS:
                self._leave_screen((record.user, record.session))
            return
        self._merge(page, slot, record)
        display = DISPLAYS.get(record.kind)
        if display == "begins":
            self._show(page, slot)
        elif display == "ends":
            self._leave_screen(page.visit)
            self._end(page, slot)

    def _merge(self, page: JoiningPage, slot: int, record: FeedbackRecord) -> None:
        decision = page.decisions[slot]
        is_first = not decision.feedback.seen
        decision.feedback = merge(decision.feedback, record, self._tallies)
        if not decision.feedback.left:
            decision.deadline_ms = self._state.clock_ms + attribution_timeout_ms(
                decision.duration_s
            )
        if is_first:
            self._state.counts.seen += 1
            self._plan(page, slot, decision.deadline_ms)

    def _show(self, page: JoiningPage, slot: int) -> None:
        """Make a card its visit's current impression, which ends the previous one."""
        is_first, page.decisions[slot].impressed = not page.decisions[slot].impressed, True
        before = self._state.on_screen.get(page.visit)
        if before == (page.page_id, slot):
            return
        if before and is_first and (page.order, slot) < (self._order(before), before[1]):
            # Cards are shown in order, so a later card's impression overtook this first one: a
            # user who really goes back sees a card for the second time.
            self._end(page, slot)
            return
        self._leave_screen(page.visit)
        self._state.on_screen[page.visit] = (page.page_id, slot)

    def _leave_screen(self, visit: tuple[UserKey, SessionId]) -> None:
        shown = self._state.on_screen.pop(visit, None)
        if shown is not None:
            page_id, slot = shown
            self._end(self._state.pages[page_id], slot)

    def _end(self, page: JoiningPage, slot: int) -> None:
        decision = page.decisions[slot]
        if not decision.feedback.left:
            decision.feedback = replace(decision.feedback, left=True)
            decision.deadline_ms = self._state.clock_ms + self._settle_ms
            self._plan(page, slot, decision.deadline_ms)

    def _order(self, shown: tuple[PageId, int]) -> int:
        return self._state.pages[shown[0]].order

    def _plan(self, page: JoiningPage, slot: int, deadline_ms: int) -> None:
        heapq.heappush(self._agenda, (deadline_ms, page.order, slot, page.page_id))

    def _close_until(self, now_ms: int) -> Iterator[Interaction]:
        while self._agenda and self._agenda[0][0] <= now_ms:
            at_ms, _, slot, page_id = heapq.heappop(self._agenda)
            page = self._state.pages.get(page_id)
            if page is None:
                continue
            if slot == _UNSEEN:
                yield from self._drop_unseen(page)
            elif decision := page.decisions.get(slot):
                if decision.deadline_ms > at_ms:
                    self._plan(page, slot, decision.deadline_ms)
                else:
                    yield self._close(page, slot)

    def _close(self, page: JoiningPage, slot: int) -> Interaction:
        interaction = close(page, slot, self._reward)
        self._state.counts.closed += 1
        self._state.counts.censored += is_censored(interaction.feedback, interaction.duration_s)
        if self._state.on_screen.get(page.visit) == (page.page_id, slot):
            del self._state.on_screen[page.visit]
        self._forget(page, [slot])
        return interaction

    def _drop_unseen(self, page: JoiningPage) -> list[Interaction]:
        """Drop what nobody saw; return it as Interactions where there is a reward for that."""
        unseen = [slot for slot, d in page.decisions.items() if not d.feedback.seen]
        self._state.counts.never_seen += len(unseen)
        closed = list[Interaction]()
        if self._default is not None:
            closed = [_unreported(page, slot, self._reward, self._default) for slot in unseen]
        self._forget(page, unseen)
        return closed

    def _forget(self, page: JoiningPage, slots: list[int]) -> None:
        for slot in slots:
            del page.decisions[slot]
        if not page.decisions:
            del self._state.pages[page.page_id]
