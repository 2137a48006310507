"""Late feedback: an event about a closed decision corrects that decision.

The decision is rebuilt from its page and its earlier events, which are looked up in the log. Memory
holds 12 bytes for each closed decision that nobody learned from, since a rebuilt one does not tell.
A record of the log says when corrections begin, so every fold begins them at the same line. Rules
and rejected alternatives: `docs/decisions/late-feedback.md`.
"""

from functools import reduce
from typing import Self

import msgspec
import numpy as np
from msgspec.structs import replace

from env.feedback import KINDS, by_name
from env.interface import PageHistory
from env.records import FeedbackRecord, PageRecord, Record, TickRecord, item_key
from env.reward import Reward, is_censored
from env.vocabulary import (
    Correction,
    DecisionId,
    Feedback,
    Interaction,
    Keys,
    PageId,
    ShortKeys,
    split_decision_id,
)
from replay.join.join import JoiningPage, close, merge, open_page

HOUR_MS = 3_600_000
EVER_MS = 2**62
"""A window that every page is in."""

FILTERED, WAITING, DEFAULTED = 1, 2, 3
"""Marks of closed decisions: nothing is learned of it; its end is not known, so it is no example
yet; the same, and it was learned with the reward of unreported cards."""

_N_MARKS = 4
_LEAST_RECENT = 1_024


class DecisionMarks:
    """Marks of closed decisions by the 64-bit hash of their ids, each with the hour it was set in.

    Sorted columns of 8 and 4 bytes a mark; recent changes stand in a dictionary of at most an
    eighth of them.
    """

    def __init__(self) -> None:
        self._keys: Keys = np.zeros(0, dtype=np.uint64)
        self._values: ShortKeys = np.zeros(0, dtype=np.uint32)
        self._recent: dict[int, int] = {}  # by key: 4 times the hour, plus the mark; 0: none

    def of(self, key: int) -> int:
        """Return the mark of a decision; 0: it has none."""
        value = self._recent.get(key)
        if value is None:
            place = int(np.searchsorted(self._keys, np.uint64(key)))
            found = place < len(self._keys) and int(self._keys[place]) == key
            value = int(self._values[place]) if found else 0
        return value % _N_MARKS

    def put(self, key: int, mark: int, now_ms: int) -> None:
        """Set a mark, or remove it (0)."""
        self._recent[key] = _N_MARKS * (now_ms // HOUR_MS) + mark if mark else 0
        if len(self._recent) > max(_LEAST_RECENT, len(self._keys) // 8):
            self._merge()

    def to_bytes(self, since_ms: int) -> tuple[bytes, bytes]:
        """Return keys and values; equal marks give equal bytes.

        Args:
            since_ms: marks of earlier hours are dropped for good.
        """
        self._merge()
        kept = self._values >= _N_MARKS * (max(since_ms, 0) // HOUR_MS)
        self._keys, self._values = self._keys[kept], self._values[kept]
        return self._keys.astype("<u8").tobytes(), self._values.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, keys: bytes, values: bytes) -> Self:
        """Return the marks that `to_bytes` wrote.

        Raises:
            ValueError: the columns are of different length, or the keys do not ascend.
        """
        marks = cls()
        marks._keys = np.frombuffer(keys, dtype="<u8").astype(np.uint64)
        marks._values = np.frombuffer(values, dtype="<u4").astype(np.uint32)
        if len(marks._keys) != len(marks._values) or (marks._keys[1:] <= marks._keys[:-1]).any():
            raise ValueError("expected a mark for each of ascending keys; was the part verified?")
        return marks

    def _merge(self) -> None:
        """Move recent changes into the columns."""
        if not self._recent:
            return
        keys = np.fromiter(self._recent.keys(), dtype=np.uint64, count=len(self._recent))
        values = np.fromiter(self._recent.values(), dtype=np.uint32, count=len(self._recent))
        kept = ~np.isin(self._keys, keys, assume_unique=True)
        keys = np.concatenate([self._keys[kept], keys[values > 0]])
        values = np.concatenate([self._values[kept], values[values > 0]])
        order = np.argsort(keys)
        self._keys, self._values = keys[order], values[order]
        self._recent.clear()


class LateCounts(msgspec.Struct, array_like=True):
    """Counts of late events since corrections began; together they are all of them."""

    corrected: int = 0  # they changed a decision that was known
    completed: int = 0  # with them, the reward of a decision became known
    noted: int = 0  # they changed a decision whose reward is still not known
    repeated: int = 0  # they told nothing new
    filtered: int = 0  # about a decision that nothing is learned of
    unknown: int = 0  # about no decision of the log, or one of too old a page


class _State(msgspec.Struct, frozen=True, array_like=True, tag="late/1"):
    begun_ms: int
    window_ms: int
    clock_ms: int
    counts: LateCounts
    keys: bytes
    values: bytes


_decoder = msgspec.msgpack.Decoder(_State)


class LateFeedback:
    """The fold of late events into corrections; nothing of a closed page stays in it."""

    def __init__(self, reward: Reward, default_reward: float | None = None) -> None:
        """Start without corrections.

        Args:
            reward: as in the join.
            default_reward: as in the join.
        """
        self._reward = reward
        self._tallies = by_name(reward.tallies)
        self._default = default_reward
        self._is_always = False
        self._begun_ms = -1
        self._window_ms = 0
        self._clock_ms = 0
        self._marks = DecisionMarks()
        self._counts = LateCounts()

    @classmethod
    def always(cls, reward: Reward, default_reward: float | None = None) -> Self:
        """Return one that corrects from the first line on, for whoever reads a whole log."""
        late = cls(reward, default_reward)
        late._is_always, late._window_ms = True, EVER_MS
        return late

    @property
    def window_ms(self) -> int:
        """How long after its page late feedback corrects a decision now; 0: it never does."""
        return self._window_ms

    @property
    def counts(self) -> LateCounts:
        """Counts of the late events so far."""
        return replace(self._counts)

    def fold(self, record: Record, clock_ms: int) -> None:
        """Take note of the join's clock, and begin or end corrections where the record says so.

        A page that may have stood in the log before they began is never corrected, nor one that was
        beyond an earlier window.
        """
        self._clock_ms = clock_ms
        if not isinstance(record, TickRecord) or self._is_always:
            return
        if record.corrects_ms not in (None, self._window_ms):
            self._begun_ms = max(self._begun_ms, clock_ms - self._window_ms)
            self._window_ms = record.corrects_ms

    def close(self, closed: Interaction, *, filtered: bool = False) -> None:
        """Take note of a decision that closed, and is no example.

        Args:
            closed: the decision.
            filtered: nothing is learned of it, now or later.
        """
        if not self._window_ms or not closed.feedback.seen:
            return
        if filtered:
            self._mark(closed.decision_id, FILTERED)
        elif is_censored(closed.feedback, closed.duration_s):
            self._mark(closed.decision_id, WAITING)

    def change(self, event: FeedbackRecord, found: PageHistory | None) -> Correction | None:
        """Return the correction that an event about no open decision makes; None: it makes none.

        Args:
            event: the record just folded.
            found: its page and the events about it before this one.
        """
        _, slot = split_decision_id(event.decision_id)
        page = None if found is None else self._page(found.page)
        if found is None or page is None or slot not in page.decisions:
            self._counts.unknown += 1
            return None
        mark = self._marks.of(item_key(event.decision_id))
        if mark == FILTERED:
            self._counts.filtered += 1
            return None
        told = (each for each in found.events if each.decision_id == event.decision_id)
        before = reduce(self._merged, told, Feedback())
        is_known = before.seen and not mark
        before = replace(before, left=is_known)
        row = KINDS.get(event.kind)
        is_ended = is_known or (row is not None and row.answers)
        after = replace(self._merged(before, event), left=is_ended)
        if after == before:
            self._counts.repeated += 1
            return None
        return self._correct(page, slot, before, after, mark)

    def to_bytes(self) -> bytes:
        """Return the state; the same records give the same bytes, however often interrupted."""
        since_ms = max(self._begun_ms, self._clock_ms - self._window_ms) - HOUR_MS
        keys, values = self._marks.to_bytes(since_ms)
        return msgspec.msgpack.encode(
            _State(self._begun_ms, self._window_ms, self._clock_ms, self._counts, keys, values)
        )

    @classmethod
    def from_bytes(cls, data: bytes, reward: Reward, default_reward: float | None = None) -> Self:
        """Return what `to_bytes` wrote.

        Raises:
            msgspec.DecodeError: the bytes are no state.
            ValueError: the marks have columns of different length.
        """
        state, late = _decoder.decode(data), cls(reward, default_reward)
        late._begun_ms, late._window_ms = state.begun_ms, state.window_ms
        late._clock_ms, late._counts = state.clock_ms, state.counts
        late._marks = DecisionMarks.from_bytes(state.keys, state.values)
        return late

    def _merged(self, feedback: Feedback, event: FeedbackRecord) -> Feedback:
        return merge(feedback, event, self._tallies)

    def _page(self, record: PageRecord) -> JoiningPage | None:
        """Return the page of an event; None where it is not corrected."""
        age_ms = self._clock_ms - record.at_ms
        is_covered = self._begun_ms < record.at_ms and age_ms <= self._window_ms
        return open_page(record, order=0) if is_covered else None

    def _correct(
        self, page: JoiningPage, slot: int, before: Feedback, after: Feedback, mark: int
    ) -> Correction:
        is_default = self._default is not None and (mark == DEFAULTED or not before.seen)
        first, last = self._rebuilt(page, slot, before), self._rebuilt(page, slot, after)
        if is_default and self._default is not None:
            first = replace(first, reward=self._default)
        is_known = before.seen and not mark
        self._count(last, was_known=is_known)
        if is_censored(after, last.duration_s):
            self._mark(last.decision_id, DEFAULTED if is_default else WAITING)
        elif mark:
            self._marks.put(item_key(last.decision_id), 0, self._clock_ms)
        return Correction(first, last, learned=is_known or is_default)

    def _rebuilt(self, page: JoiningPage, slot: int, feedback: Feedback) -> Interaction:
        page.decisions[slot].feedback = feedback
        page.decisions[slot].deadline_ms = self._clock_ms
        return close(page, slot, self._reward)

    def _count(self, after: Interaction, *, was_known: bool) -> None:
        if was_known:
            self._counts.corrected += 1
        elif is_censored(after.feedback, after.duration_s):
            self._counts.noted += 1
        else:
            self._counts.completed += 1

    def _mark(self, decision_id: DecisionId, mark: int) -> None:
        self._marks.put(item_key(decision_id), mark, self._clock_ms)


class KeptPast:
    """The past of lines that were read before, in memory: of whoever has no store at hand."""

    def __init__(self) -> None:
        self._pages: dict[PageId, tuple[PageRecord, list[FeedbackRecord]]] = {}

    def keep(self, record: Record) -> None:
        """Keep what later events may ask for; an event is kept after it was asked about."""
        if isinstance(record, PageRecord):
            self._pages.setdefault(record.page_id, (record, []))
        elif isinstance(record, FeedbackRecord):
            page_id, _ = split_decision_id(record.decision_id)
            if page_id in self._pages:
                self._pages[page_id][1].append(record)

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of an event, and the kept events about it."""
        page_id, _ = split_decision_id(event.decision_id)
        found = self._pages.get(page_id)
        return None if found is None else PageHistory(found[0], tuple(found[1]))
