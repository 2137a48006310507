"""Late feedback: what it corrects, when, how often, and that it is one deterministic fold."""

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    LogLine,
    PageRecord,
    Record,
    RuleRecord,
    TickRecord,
)
from env.reward import Reward, is_censored
from env.vocabulary import (
    Correction,
    DecisionId,
    Example,
    Feedback,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
)
from replay.join.join import UNSEEN_MS, Join
from replay.join.late import FILTERED, WAITING, DecisionMarks, KeptPast, LateCounts, LateFeedback
from replay.join.whole import WholeJoin, join_all

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
AT_MS = 1_000_000
WATCHED = Feedback(seen=True, left=True, dwell_s=9.0)


def page(page_id: str = "p", at_ms: int = AT_MS) -> PageRecord:
    items = tuple(ItemId(f"{page_id}{k}") for k in range(3))
    return PageRecord(
        page_id=PageId(page_id),
        at_ms=at_ms,
        user=UserKey("k1"),
        session=SessionId("s1"),
        scene=Scene(at_ms, country="GB"),
        candidates=items,
        blocks=bytes(24),
        dynamic=b"\x00\x3c" * 3,
        shared=b"\x00\x3c",
        feature_schema=1,
        rules=(RuleRecord("open", b"\x07", b"\x07"),),
        slots=(0, 0, 0),
        drawn=tuple(Drawn(k, k, 0.5) for k in range(3)),
        cards=tuple(Card(item, b"\x07\x3c", duration_s=30.0) for item in items),
        reasons=("fresh",) * 3,
        policy="uniform@0",
        explorer={},
        eps=0.0,
    )


def say(decision: str, kind: FeedbackKind, at_ms: int, value: float = 0.0) -> FeedbackRecord:
    return FeedbackRecord(
        event_id=f"{decision}/{kind}/{at_ms}/{value}",
        decision_id=DecisionId(decision),
        at_ms=at_ms,
        user=UserKey("k1"),
        session=SessionId("s1"),
        kind=kind,
        value=value,
    )


def begin(at_ms: int = 0, corrects_ms: int = 30 * DAY_MS) -> TickRecord:
    return TickRecord(at_ms, corrects_ms=corrects_ms)


class Fold:
    """The online join with corrections, as the learner folds them."""

    def __init__(self, *records: Record, default_reward: float | None = None) -> None:
        self.join = Join(Reward(), default_reward=default_reward)
        self.late = LateFeedback(Reward(), default_reward)
        self.past = KeptPast()
        self.found: list[Example] = []
        self.fold(*records)

    def fold(self, *records: Record) -> list[Example]:
        """Fold records; return what these closed and corrected."""
        n_before = len(self.found)
        for record in records:
            for closed in self.join.fold(record):
                self.late.close(closed)
                self.found.append(closed)
            self.late.fold(record, self.join.clock_ms)
            if self.join.was_late and self.late.window_ms and isinstance(record, FeedbackRecord):
                change = self.late.change(record, self.past.history(record))
                self.found += [] if change is None else [change]
            self.past.keep(record)
        return self.found[n_before:]

    def correct(self, record: Record) -> Correction:
        """Fold a record that corrects one decision and closes none."""
        (change,) = self.fold(record)
        assert isinstance(change, Correction)
        return change


def watched(slot: int = 0, *, until_ms: int = AT_MS + 100_000) -> list[Record]:
    """A page with one card that was watched for 9 s and closed."""
    name = f"p:{slot}"
    told = say(name, "dwell", AT_MS + 9_000, 9.0), say(name, "leave", AT_MS + 9_000)
    return [page(), *told, TickRecord(until_ms)]


def counts(**some: int) -> LateCounts:
    return LateCounts(**some)


def test_a_late_like_corrects_a_card_once() -> None:
    fold = Fold(begin(), *watched())
    (closed,) = fold.found
    assert not isinstance(closed, Correction)
    like = say("p:0", "like", AT_MS + 200_000)
    change = fold.correct(like)
    assert change.before.feedback == closed.feedback == WATCHED
    assert change.before.reward == closed.reward == 0.5
    assert change.after.feedback == msgspec.structs.replace(WATCHED, like=True)
    assert change.difference == 0.5
    assert change.learned
    expected = msgspec.structs.replace(
        closed, feedback=change.after.feedback, reward=1.0, closed_ms=AT_MS + 200_000
    )
    assert change.after == expected, "propensity and features are those of the page"
    assert fold.fold(say("p:0", "like", AT_MS + 300_000)) == []
    assert fold.late.counts == counts(corrected=1, repeated=1)


def test_a_card_whose_end_is_told_late_becomes_an_example_then() -> None:
    fold = Fold(begin(), page(), say("p:0", "impression", AT_MS), TickRecord(AT_MS + HOUR_MS))
    (closed,) = fold.found
    assert not isinstance(closed, Correction)
    assert not closed.feedback.left
    noted = fold.correct(say("p:0", "like", AT_MS + 2 * HOUR_MS))
    assert (noted.learned, noted.after.feedback.left) == (False, False)
    done = fold.correct(say("p:0", "dwell", AT_MS + 3 * HOUR_MS, 9.0))
    assert (done.learned, done.before.feedback) == (False, noted.after.feedback)
    assert done.after.feedback == msgspec.structs.replace(WATCHED, like=True)
    more = fold.correct(say("p:0", "dwell", AT_MS + 4 * HOUR_MS, 20.0))
    assert (more.learned, more.difference) == (True, 0.5)
    assert fold.late.counts == counts(noted=1, completed=1, corrected=1)


def test_a_card_that_nobody_reported_in_time_becomes_an_example_when_its_end_is_known() -> None:
    fold = Fold(begin(), page(), TickRecord(AT_MS + UNSEEN_MS))
    assert fold.join.counts.never_seen == 3
    first = fold.correct(say("p:1", "like", AT_MS + 2 * HOUR_MS))
    assert (first.learned, first.before.feedback) == (False, Feedback())
    assert first.after.feedback == Feedback(seen=True, like=True)
    done = fold.correct(say("p:1", "leave", AT_MS + 3 * HOUR_MS))
    assert done.after.feedback == Feedback(seen=True, left=True, like=True)
    at_once = fold.correct(say("p:2", "dwell", AT_MS + 3 * HOUR_MS, 9.0))
    assert (at_once.learned, at_once.after.reward) == (False, 0.5)
    assert fold.late.counts == counts(noted=1, completed=2)


def test_a_card_without_reports_has_the_default_reward_until_it_is_reported() -> None:
    fold = Fold(begin(), page(), default_reward=-0.25)
    closed = fold.fold(TickRecord(AT_MS + UNSEEN_MS))
    assert [c.reward for c in closed if not isinstance(c, Correction)] == [-0.25] * 3
    assert not any(c.feedback.seen for c in closed if not isinstance(c, Correction))
    seen = fold.correct(say("p:0", "impression", AT_MS + 2 * HOUR_MS))
    assert (seen.learned, seen.before.reward, seen.after.feedback.left) == (True, -0.25, False)
    done = fold.correct(say("p:0", "dwell", AT_MS + 3 * HOUR_MS, 9.0))
    assert (done.learned, done.before.reward, done.after.reward) == (True, -0.25, 0.5)
    more = fold.correct(say("p:0", "like", AT_MS + 4 * HOUR_MS))
    assert (more.before.reward, more.after.reward) == (0.5, 1.0)


def test_what_is_filtered_is_never_corrected() -> None:
    fold = Fold(begin(), *watched())
    (closed,) = fold.found
    assert not isinstance(closed, Correction)
    fold.late.close(closed, filtered=True)
    assert fold.fold(say("p:0", "like", AT_MS + HOUR_MS)) == []
    assert fold.late.counts == counts(filtered=1)


@pytest.mark.parametrize(
    "records",
    [
        [begin(), say("q:0", "like", AT_MS)],  # no such page
        [begin(), *watched(), say("p:7", "like", AT_MS + HOUR_MS)],  # no such slot
        [begin(), say("p:0", "dwell", AT_MS, 9.0), page(), TickRecord(AT_MS + HOUR_MS)],
        [page(), begin(AT_MS), *watched()[1:], say("p:0", "like", AT_MS + HOUR_MS)],
        [begin(corrects_ms=HOUR_MS), *watched(), say("p:0", "like", AT_MS + HOUR_MS + 1)],
    ],
    ids=["unknown page", "unknown slot", "event first", "page before the beginning", "too old"],
)
def test_what_no_page_of_the_window_explains_stays_late(records: Sequence[Record]) -> None:
    fold = Fold(*records)
    assert not any(isinstance(found, Correction) for found in fold.found)
    assert fold.join.counts.late == fold.late.counts.unknown == 1


def test_an_event_before_its_page_is_no_part_of_what_was_known() -> None:
    early = say("p:0", "dwell", AT_MS, 20.0)
    fold = Fold(begin(), early, page(), TickRecord(AT_MS + HOUR_MS))
    change = fold.correct(say("p:0", "leave", AT_MS + 2 * HOUR_MS))
    assert change.before.feedback == Feedback()
    assert change.after.feedback == Feedback(seen=True, left=True)


def test_without_a_line_that_says_so_nothing_is_corrected() -> None:
    fold = Fold(*watched(), say("p:0", "like", AT_MS + HOUR_MS))
    assert len(fold.found) == 1
    assert fold.late.counts == LateCounts()
    assert LateFeedback(Reward()).to_bytes() != fold.late.to_bytes(), "its clock has moved"


def test_corrections_end_and_begin_again_where_the_log_says_so() -> None:
    fold = Fold(begin(), *watched(), begin(AT_MS + HOUR_MS, 0))
    assert fold.fold(say("p:0", "like", AT_MS + HOUR_MS)) == []
    fold.fold(begin(AT_MS + 2 * HOUR_MS, 40 * DAY_MS))
    assert fold.fold(say("p:0", "share", AT_MS + 2 * HOUR_MS)) == [], "its page is of before"
    assert fold.late.counts == counts(unknown=1)
    fold.fold(begin(AT_MS + 2 * HOUR_MS, 40 * DAY_MS), page("n", AT_MS + 3 * HOUR_MS))
    fold.fold(TickRecord(AT_MS + 5 * HOUR_MS))
    assert fold.correct(say("n:0", "leave", AT_MS + 6 * HOUR_MS)).after.feedback.left


# --- in every order -------------------------------------------------------------------------------

TOLD: tuple[tuple[FeedbackKind, float], ...] = (
    ("impression", 0.0),
    ("dwell", 9.0),
    ("dwell", 20.0),
    ("like", 0.0),
    ("leave", 0.0),
)
LATE_MS = (1_000, 2_500, 50_000, 30 * 60_000, 2 * HOUR_MS, DAY_MS)


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(TOLD)))), ids=str)
def test_a_decision_comes_to_the_same_reward_in_every_order(order: tuple[int, ...]) -> None:
    events = [
        say("p:0", *TOLD[k][:1], AT_MS + late_ms, TOLD[k][1])
        for k, late_ms in zip(order, LATE_MS, strict=False)
    ]
    records: list[Record] = [begin(), page()]
    for event in events:
        records += [event, TickRecord(event.at_ms + 40_000), event]
    fold = Fold(*records, TickRecord(AT_MS + 3 * DAY_MS))
    finals = [e.after if isinstance(e, Correction) else e for e in fold.found]
    expected = Feedback(seen=True, left=True, dwell_s=20.0, like=True)
    assert is_known(finals[-1])
    assert msgspec.structs.replace(finals[-1].feedback, left=True) == expected
    assert finals[-1].reward == 1.5
    assert learned_reward(fold.found) == 1.5
    lines = [LogLine(k, record) for k, record in enumerate(records, start=1)]
    *_, last = join_all(lines, Reward())
    assert last == finals[-1]


def learned_reward(examples: Sequence[Example]) -> float:
    """Return the sum of what a learner adds up."""
    total = 0.0
    for example in examples:
        if not isinstance(example, Correction):
            total += example.reward * is_known(example)
        elif is_known(example.after):
            total += example.difference if example.learned else example.after.reward
    return total


def is_known(interaction: Interaction) -> bool:
    return not is_censored(interaction.feedback, interaction.duration_s)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    pages = [page(f"{k}", AT_MS + k * HOUR_MS) for k in range(3)]
    records: list[Record] = [begin(), *pages]
    for n in range(draw(st.integers(1, 30))):
        of, slot = draw(st.sampled_from(pages)), draw(st.integers(0, 2))
        kind, value = draw(st.sampled_from(TOLD))
        at_ms = of.at_ms + draw(st.sampled_from(LATE_MS)) + n
        records.append(say(f"{of.page_id}:{slot}", kind, at_ms, value))
    return sorted(records, key=lambda record: record.at_ms)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(records=logs(), cut=st.integers(0, 33))
def test_a_reader_of_the_whole_log_comes_to_what_the_learner_adds_up(
    records: list[Record], cut: int
) -> None:
    fold, half = Fold(*records), Fold(*records[:cut])
    half.late = LateFeedback.from_bytes(half.late.to_bytes(), Reward())
    half.fold(*records[cut:])
    assert half.late.to_bytes() == fold.late.to_bytes()
    assert half.found == fold.found
    fold.found += fold.join.flush()
    whole, rewards = WholeJoin(Reward()), dict[DecisionId, float]()
    for example in [*itertools.chain.from_iterable(map(whole.fold, records)), *whole.flush()]:
        last = example.after if isinstance(example, Correction) else example
        rewards[last.decision_id] = last.reward * is_known(last)
    assert sum(rewards.values()) == learned_reward(fold.found)
    assert sum(msgspec.structs.astuple(fold.late.counts)) == fold.join.counts.late


# --- marks ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    puts=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from((0, FILTERED, WAITING)), st.integers(0, 9)),
        max_size=120,
    )
)
def test_marks_are_those_of_a_dictionary(puts: list[tuple[int, int, int]]) -> None:
    marks, expected, n_merged = DecisionMarks(), dict[int, int](), 0
    for key, mark, hour in puts:
        marks.put(key, mark, hour * HOUR_MS)
        expected[key] = mark
        if key % 7 == 0:
            marks = DecisionMarks.from_bytes(*marks.to_bytes(0))
            n_merged += 1
    assert [marks.of(key) for key in range(61)] == [expected.get(key, 0) for key in range(61)]
    keys, values = marks.to_bytes(0)
    n = sum(mark > 0 for mark in expected.values())
    assert (len(keys), len(values)) == (8 * n, 4 * n), "12 bytes a mark"


def test_marks_of_hours_that_are_over_are_dropped() -> None:
    marks = DecisionMarks()
    for hour in range(10):
        marks.put(hour, WAITING, hour * HOUR_MS)
    keys, _ = marks.to_bytes(4 * HOUR_MS)
    assert len(keys) == 8 * 6
    assert [marks.of(hour) for hour in (3, 4)] == [0, WAITING]


@pytest.mark.parametrize(
    ("keys", "values"), [(bytes(8), b""), (bytes(16), bytes(8))], ids=["length", "order"]
)
def test_bytes_that_are_no_marks_are_refused(keys: bytes, values: bytes) -> None:
    with pytest.raises(ValueError, match="expected a mark for each of ascending keys"):
        DecisionMarks.from_bytes(keys, values)
