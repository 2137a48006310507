"""The join: what closes, when, with which feedback, and that it is one deterministic fold."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.interface import fill_page
from env.pages.records import page_record
from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    ItemRecord,
    LogLine,
    PageRecord,
    Record,
    RuleRecord,
    TickRecord,
    UserRecord,
    item_key,
    pack_halves,
)
from env.reward import Reward, is_censored
from env.vocabulary import (
    Context,
    DecisionId,
    Features,
    Feedback,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
    split_decision_id,
)
from policies.baselines import UniformPolicy
from replay.join.join import SETTLE_MS, UNSEEN_MS, Join, attribution_timeout_ms
from replay.join.whole import join_all

HOUR_MS = 3_600_000


def page(
    page_id: str = "p",
    at_ms: int = 0,
    *,
    durations_s: Sequence[float] = (10.0, 20.0, 0.0),
    visit: tuple[str, str] = ("k1", "s1"),
) -> PageRecord:
    n = len(durations_s)
    every = (2**n - 1).to_bytes(1, "little")
    return PageRecord(
        page_id=PageId(page_id),
        at_ms=at_ms,
        user=UserKey(visit[0]),
        session=SessionId(visit[1]),
        scene=Scene(at_ms, country="GB"),
        candidates=tuple(ItemId(f"{page_id}{i}") for i in range(n)),
        blocks=bytes(8 * n),
        dynamic=b"".join(bytes([i, 0x3C]) for i in range(n)),
        shared=b"\x00\x3c",
        feature_schema=1,
        rules=(RuleRecord("open", every, every),),
        slots=(0,) * n,
        drawn=tuple(Drawn(i, i, 1 / (n - i)) for i in range(n)),
        cards=tuple(
            Card(ItemId(f"{page_id}{i}"), b"\x07\x3c", duration_s=d)
            for i, d in enumerate(durations_s)
        ),
        reasons=("fresh",) * n,
        policy="uniform@0",
        explorer={},
        eps=0.0,
    )


def say(
    decision: str,
    kind: FeedbackKind,
    at_ms: int,
    value: float = 0.0,
    visit: tuple[str, str] = ("k1", "s1"),
) -> FeedbackRecord:
    return FeedbackRecord(
        event_id=f"{decision}/{kind}/{at_ms}",
        decision_id=DecisionId(decision),
        at_ms=at_ms,
        user=UserKey(visit[0]),
        session=SessionId(visit[1]),
        kind=kind,
        value=value,
    )


def fold(join: Join, records: Iterable[Record]) -> list[Interaction]:
    return [closed for record in records for closed in join.fold(record)]


def run(*records: Record, until_ms: int | None = None) -> dict[str, Interaction]:
    """Fold and return what closed, by decision; None: everything, at its own deadline."""
    join = Join(Reward())
    closed = fold(join, records)
    closed += join.flush() if until_ms is None else join.fold(TickRecord(until_ms))
    return {interaction.decision_id: interaction for interaction in closed}


def lines(records: Iterable[Record]) -> Iterator[LogLine]:
    return (LogLine(offset, record) for offset, record in enumerate(records, 1))


# --- when a decision closes -----------------------------------------------------------------------


def test_a_card_closes_a_settling_time_after_the_next_impression_of_its_visit() -> None:
    records = (page(), say("p:0", "impression", 100), say("p:1", "impression", 5_000))
    assert run(*records, until_ms=5_000 + SETTLE_MS - 1) == {}
    closed = run(*records, until_ms=5_000 + SETTLE_MS)
    assert list(closed) == ["p:0"]
    assert closed["p:0"].feedback == Feedback(seen=True, left=True)
    assert closed["p:0"].closed_ms == 5_000 + SETTLE_MS


def test_the_next_impression_may_be_of_another_page_of_the_visit() -> None:
    closed = run(
        page("p"),
        page("q", at_ms=50),
        say("p:2", "impression", 100),
        say("q:0", "impression", 5_000),
    )
    assert closed["p:2"].feedback.left
    assert not closed["q:0"].feedback.left


def test_a_leave_ends_its_card() -> None:
    closed = run(page(), say("p:0", "impression", 100), say("p:0", "leave", 900))
    assert closed["p:0"].feedback == Feedback(seen=True, left=True)
    assert closed["p:0"].closed_ms == 900 + SETTLE_MS


def test_a_card_that_is_left_twice_closes_after_the_first_time() -> None:
    closed = run(page(), say("p:0", "leave", 900), say("p:0", "leave", 1_500))
    assert closed["p:0"].closed_ms == 900 + SETTLE_MS


def test_a_leave_ends_the_card_on_screen_whichever_card_it_names() -> None:
    for decision in ("p:0", "gone:0"):
        closed = run(
            page(),
            say("p:0", "impression", 100),
            say("p:1", "impression", 200),
            say(decision, "leave", 900),
        )
        assert closed["p:1"].feedback.left
        assert closed["p:1"].closed_ms == 900 + SETTLE_MS


@pytest.mark.parametrize(("slot", "wait_ms"), [(0, 80_000), (1, 100_000), (2, 120_000)])
def test_a_card_that_was_not_left_closes_some_time_after_its_last_word(
    slot: int, wait_ms: int
) -> None:
    decision = f"p:{slot}"
    records = (page(), say(decision, "impression", 1), say(decision, "dwell", 10_001, 10.0))
    assert run(*records, until_ms=10_000 + wait_ms) == {}
    closed = run(*records, until_ms=10_001 + wait_ms)
    assert closed[decision].closed_ms == 10_001 + wait_ms
    assert closed[decision].feedback == Feedback(seen=True, dwell_s=10.0)


def test_feedback_within_the_settling_time_counts_and_does_not_prolong_it() -> None:
    closed = run(
        page(),
        say("p:0", "impression", 0),
        say("p:1", "impression", 5_000),
        say("p:0", "dwell", 6_000, 5.0),
        say("p:0", "like", 6_999),
    )
    assert closed["p:0"].feedback == Feedback(seen=True, left=True, dwell_s=5.0, like=True)
    assert closed["p:0"].closed_ms == 7_000


def test_feedback_after_closing_is_late_and_counted() -> None:
    join = Join(Reward())
    fold(join, [page(), say("p:0", "impression", 0), say("p:0", "leave", 1_000)])
    (closed,) = join.fold(say("p:0", "like", 1_000 + SETTLE_MS))
    assert not closed.feedback.like
    assert join.fold(say("unknown:4", "like", 4_000)) == []
    assert join.counts.late == 2


def test_another_visit_s_impression_ends_nothing() -> None:
    closed = run(
        page("p"),
        page("q", visit=("k1", "s2")),
        page("r", visit=("k2", "s1")),
        say("p:0", "impression", 0),
        say("q:0", "impression", 10, visit=("k1", "s2")),
        say("r:0", "impression", 20, visit=("k2", "s1")),
    )
    assert not any(interaction.feedback.left for interaction in closed.values())


def test_a_second_impression_of_the_same_card_ends_nothing() -> None:
    closed = run(page(), say("p:0", "impression", 0), say("p:0", "impression", 10))
    assert not closed["p:0"].feedback.left


def test_going_back_to_a_card_ends_the_one_after_it() -> None:
    back = (
        page(),
        say("p:0", "impression", 0),
        say("p:1", "impression", 1_000),
        say("p:0", "impression", 2_000),
    )
    assert run(*back)["p:1"].closed_ms == 2_000 + SETTLE_MS
    late = (*back[:3], say("p:0", "impression", 9_000))
    assert run(*late)["p:1"].closed_ms == 9_000 + SETTLE_MS, "also when that card has closed"


def test_an_impression_that_was_overtaken_by_a_later_card_ends_its_own_card() -> None:
    closed = run(
        page(),
        say("p:1", "impression", 1_000),
        say("p:0", "impression", 1_200),
        say("p:0", "dwell", 1_300, 4.0),
    )
    assert closed["p:0"].feedback == Feedback(seen=True, left=True, dwell_s=4.0)
    assert closed["p:0"].closed_ms == 1_200 + SETTLE_MS
    assert not closed["p:1"].feedback.left


def test_a_card_that_closed_in_silence_is_not_on_screen_any_more() -> None:
    join = Join(Reward())
    first = fold(join, [page(), say("p:0", "impression", 0), TickRecord(HOUR_MS // 2)])
    assert [interaction.feedback.left for interaction in first] == [False]
    rest = fold(join, [say("p:1", "impression", HOUR_MS // 2)]) + join.flush()
    assert [interaction.decision_id for interaction in rest] == ["p:1"]


def test_a_decision_that_nobody_saw_is_dropped_when_its_page_is_an_hour_old() -> None:
    join = Join(Reward())
    fold(join, [page(at_ms=500), say("p:1", "impression", 600), TickRecord(500 + UNSEEN_MS - 1)])
    assert (join.counts.never_seen, join.counts.closed) == (0, 1)
    join.fold(say("p:2", "impression", 500 + UNSEEN_MS))
    assert (join.counts.never_seen, join.counts.late) == (2, 1)
    assert len(Join(Reward()).to_bytes()) + 20 > len(join.to_bytes()), "nothing is kept of it"


def test_time_is_the_greatest_received_and_never_runs_back() -> None:
    join = Join(Reward())
    fold(join, [page(at_ms=10_000), say("p:0", "impression", 9_000), say("p:0", "leave", 8_000)])
    assert join.clock_ms == 10_000
    (closed,) = join.flush()
    assert closed.closed_ms == 10_000 + SETTLE_MS


@pytest.mark.parametrize(
    "record",
    [
        TickRecord(HOUR_MS),
        ItemRecord(ItemId("a"), HOUR_MS),
        UserRecord(UserKey("k2"), HOUR_MS),
        page("q", HOUR_MS),
    ],
)
def test_the_time_of_any_record_closes_what_is_due(record: Record) -> None:
    join = Join(Reward())
    fold(join, [page(), say("p:0", "impression", 0)])
    assert [interaction.decision_id for interaction in join.fold(record)] == ["p:0"]


def test_decisions_close_by_deadline_then_page_then_slot() -> None:
    pages = [page("b"), page("a"), page("c", visit=("k2", "s2"))]
    likes = [say(decision, "like", 0) for decision in ("a:1", "a:0", "b:1", "c:0", "b:0")]
    join = Join(Reward())
    fold(join, [*pages, *likes])
    assert [i.decision_id for i in join.fold(TickRecord(HOUR_MS // 2))] == [
        "b:0",
        "a:0",
        "c:0",
        "b:1",
        "a:1",
    ]


# --- what an Interaction holds --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("impression", 0.0, Feedback(seen=True)),
        ("dwell", 3.5, Feedback(seen=True, dwell_s=3.5)),
        ("like", 0.0, Feedback(seen=True, like=True)),
        ("comment", 0.0, Feedback(seen=True, comment=True)),
        ("share", 0.0, Feedback(seen=True, share=True)),
        ("follow", 0.0, Feedback(seen=True, follow=True)),
        ("not_interested", 0.0, Feedback(seen=True, not_interested=True)),
        ("product_click", 0.0, Feedback(seen=True, product_click=True)),
        ("leave", 0.0, Feedback(seen=True, left=True)),
    ],
)
def test_any_event_means_that_the_card_was_seen(
    kind: FeedbackKind, value: float, expected: Feedback
) -> None:
    assert run(page(), say("p:0", kind, 5, value))["p:0"].feedback == expected


def test_the_longest_dwell_counts_whatever_the_order() -> None:
    for values in itertools.permutations((10.0, 20.0, 12.5)):
        reports = [say("p:0", "dwell", 10 + i, value) for i, value in enumerate(values)]
        assert run(page(), *reports)["p:0"].feedback.dwell_s == 20.0


def test_an_interaction_is_the_decision_on_its_features_with_its_reward() -> None:
    records = (
        page(at_ms=50),
        say("p:1", "impression", 100),
        say("p:1", "dwell", 8_100, 8.0),
        say("p:1", "share", 8_200),
        say("p:1", "leave", 8_300),
    )
    assert run(*records)["p:1"] == Interaction(
        decision_id=DecisionId("p:1"),
        page_id=PageId("p"),
        user=UserKey("k1"),
        session=SessionId("s1"),
        item_id=ItemId("p1"),
        slot=1,
        policy="uniform@0",
        propensity=0.5,
        n_actions=2,
        shared=b"\x00\x3c",
        action=b"\x07\x3c\x01\x3c",
        item_key=item_key("p1"),
        duration_s=20.0,
        feedback=Feedback(seen=True, left=True, dwell_s=8.0, share=True),
        reward=1.5,
        scene=Scene(50, country="GB"),
        closed_ms=8_300 + SETTLE_MS,
    )


def test_features_and_choices_are_those_that_the_page_was_drawn_on() -> None:
    rng = np.random.default_rng(7)
    n, n_static, n_slots = 37, 5, 12
    actions = rng.standard_normal((n, 9)).astype(np.float16).astype(np.float32)
    shared = rng.standard_normal(4).astype(np.float16).astype(np.float32)
    items = tuple(ItemId(f"i{i}") for i in range(n))
    keys = np.array([item_key(item) for item in items], dtype=np.uint64)
    context = Context(
        PageId("p"),
        UserKey("k1"),
        SessionId("s1"),
        Scene(0),
        items,
        Features(shared, actions, keys),
    )
    wide = SlotRule(rng.random(n) < 0.8, np.ones(n, dtype=np.bool_))
    narrow = SlotRule(rng.random(n) < 0.1, np.ones(n, dtype=np.bool_), "reserved")
    rules = [narrow if slot % 3 == 0 else wide for slot in range(n_slots)]
    drawn = fill_page(context, UniformPolicy(), rules, 0.1, seed=3)
    assert len(drawn.decisions) < n_slots, "a slot stayed empty, as may happen"
    record = page_record(
        drawn,
        blocks=bytes(8 * n),
        n_static=n_static,
        feature_schema=1,
        cards=tuple(
            Card(d.item_id, pack_halves(actions[d.action, :n_static])) for d in drawn.decisions
        ),
        reasons=("fresh",) * len(drawn.decisions),
    )
    closed = run(record, *(say(d.decision_id, "like", 1) for d in drawn.decisions))
    left = np.ones(n, dtype=np.bool_)
    for decision in drawn.decisions:
        interaction = closed[decision.decision_id]
        assert interaction.n_actions == np.count_nonzero(rules[decision.slot].mask & left)
        left[decision.action] = False
        assert interaction.propensity == decision.propensity
        assert interaction.slot == decision.slot
        assert interaction.action == pack_halves(actions[decision.action])
        assert interaction.shared == pack_halves(shared)
        assert interaction.item_key == keys[decision.action]


def test_every_decision_is_counted_once() -> None:
    join = Join(Reward())
    fold(
        join,
        [
            page(),
            say("p:0", "impression", 0),
            say("p:0", "leave", 10),
            say("p:1", "impression", 20),
            TickRecord(30),
        ],
    )
    assert join.n_waiting == 2
    join.flush()
    assert msgspec.structs.asdict(join.counts) == {
        "pages": 1,
        "decisions": 3,
        "seen": 2,
        "closed": 2,
        "censored": 1,
        "never_seen": 1,
        "late": 0,
        "ticks": 1,
    }
    assert join.n_waiting == 0


# --- offline --------------------------------------------------------------------------------------


def test_offline_what_came_late_counts() -> None:
    records = (
        page(),
        say("p:0", "impression", 0),
        say("p:1", "impression", 1_000),
        say("p:0", "like", 1_000 + HOUR_MS),
        say("p:1", "dwell", 1_500 + HOUR_MS, 30.0),
        say("p:2", "impression", 1_600 + HOUR_MS),
    )
    online = run(*records)
    assert not online["p:0"].feedback.like
    assert not online["p:1"].feedback.left
    offline: dict[str, Interaction] = {i.decision_id: i for i in join_all(lines(records), Reward())}
    assert offline["p:0"] == msgspec.structs.replace(
        online["p:0"],
        feedback=Feedback(seen=True, left=True, like=True),
        reward=0.5,
        closed_ms=1_000 + HOUR_MS,
    )
    assert offline["p:1"].feedback == Feedback(seen=True, left=True, dwell_s=30.0)
    assert offline["p:1"].closed_ms == 1_500 + HOUR_MS


# --- one deterministic fold, whatever happens -----------------------------------------------------

VISITS = (("k1", "s1"), ("k1", "s2"), ("k2", "s1"))
KINDS: tuple[FeedbackKind, ...] = ("impression", "impression", "dwell", "like", "leave")
STEPS_MS = (0, 0, 1, 700, SETTLE_MS, 30_000, 79_999, 80_000, 120_000, -5_000, HOUR_MS)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Return records as several users' clients may send them, in no sensible order."""
    n_pages = draw(st.integers(1, 5))
    pages = [
        page(f"{i}", visit=VISITS[draw(st.integers(0, 2))], durations_s=(10.0, 0.0, 1.0))
        for i in range(n_pages)
    ]
    unopened = list(pages)
    at_ms, records = 0, list[Record]()
    for n in range(draw(st.integers(1, 40))):
        at_ms = max(0, at_ms + draw(st.sampled_from(STEPS_MS)))
        if unopened and draw(st.integers(0, 4)) == 0:
            records.append(msgspec.structs.replace(unopened.pop(0), at_ms=at_ms))
            continue
        of = draw(st.sampled_from(pages))
        decision = f"{of.page_id}:{draw(st.integers(0, 2))}"
        kind = draw(st.sampled_from(KINDS))
        event = say(decision, kind, at_ms, float(n), visit=(of.user, of.session))
        records.append(event)
    return records


thorough = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def through(records: Sequence[Record]) -> tuple[list[Interaction], bytes]:
    join = Join(Reward())
    closed = fold(join, records)
    state = join.to_bytes()
    return closed + join.flush(), state


@thorough
@given(logs(), st.data())
@pytest.mark.slow
def test_a_join_restored_anywhere_goes_on_as_if_it_had_never_stopped(
    records: list[Record], data: st.DataObject
) -> None:
    stops = data.draw(st.sets(st.integers(0, len(records) - 1)))
    join, closed = Join(Reward()), list[Interaction]()
    for n, record in enumerate(records):
        if n in stops:
            join = Join.from_bytes(join.to_bytes(), Reward())
        closed += join.fold(record)
    state = join.to_bytes()
    assert (closed + Join.from_bytes(state, Reward()).flush(), state) == through(records)


@thorough
@given(logs())
def test_every_decision_closes_once_or_is_dropped_and_nothing_is_kept(
    records: list[Record],
) -> None:
    join = Join(Reward())
    closed = fold(join, records) + join.flush()
    counts = join.counts
    assert len({interaction.decision_id for interaction in closed}) == len(closed) == counts.closed
    assert counts.closed == counts.seen
    assert counts.decisions == counts.closed + counts.never_seen
    assert counts.censored == sum(is_censored(i.feedback, i.duration_s) for i in closed)
    assert (join._state.pages, join._state.on_screen, join._agenda) == ({}, {}, [])


@thorough
@given(logs())
def test_interactions_come_by_deadline_then_page_then_slot(records: list[Record]) -> None:
    opened = [record.page_id for record in records if isinstance(record, PageRecord)]
    closed, _ = through(records)
    order = [(i.closed_ms, opened.index(i.page_id), i.slot) for i in closed]
    assert order == sorted(order)


@thorough
@given(logs())
def test_ticks_change_when_interactions_come_and_not_what_they_are(records: list[Record]) -> None:
    ticked = list[Record]()
    clock_ms = 0
    for record in records:
        ticked += [TickRecord(at_ms) for at_ms in range(clock_ms, record.at_ms, 40_000)]
        ticked += [TickRecord(clock_ms), record]
        clock_ms = max(clock_ms, record.at_ms)
    assert through(ticked)[0] == through(records)[0]


@thorough
@given(logs())
def test_a_decision_is_exactly_what_was_said_about_it_before_its_deadline(
    records: list[Record],
) -> None:
    heard: dict[str, list[tuple[int, FeedbackRecord]]] = {}
    ends: dict[tuple[str, str], set[int]] = {}
    open_since: dict[str, int] = {}
    for clock_ms, record in zip(
        itertools.accumulate((r.at_ms for r in records), max), records, strict=True
    ):
        if isinstance(record, PageRecord):
            open_since[record.page_id] = clock_ms
        elif isinstance(record, FeedbackRecord):
            if split_decision_id(record.decision_id)[0] in open_since:
                heard.setdefault(record.decision_id, []).append((clock_ms, record))
            if record.kind in {"impression", "leave"}:
                ends.setdefault((record.user, record.session), set()).add(clock_ms)
    for closed in through(records)[0]:
        words = [(ms, word) for ms, word in heard[closed.decision_id] if ms < closed.closed_ms]
        dwells = [word.value for _, word in words if word.kind == "dwell"]
        assert closed.feedback.dwell_s == max(dwells, default=0.0)
        assert closed.feedback.like == any(word.kind == "like" for _, word in words)
        assert closed.reward == Reward().of(closed.feedback, closed.duration_s)
        if closed.feedback.left:
            assert closed.closed_ms - SETTLE_MS in ends[closed.user, closed.session]
        else:
            assert closed.closed_ms - attribution_timeout_ms(closed.duration_s) == words[-1][0]
            assert not any(word.kind == "leave" for _, word in words)


def test_a_visit_without_late_news_is_the_same_online_and_offline() -> None:
    rng = np.random.default_rng(11)
    records: list[Record] = []
    at_ms = 0
    for number in range(50):
        name = f"{number}"
        records.append(page(name, at_ms))
        for slot in range(int(rng.integers(1, 4))):
            records.append(say(f"{name}:{slot}", "impression", at_ms))
            dwell_ms = int(rng.integers(100, 40_000))
            beats_ms = (*range(10_000, dwell_ms, 10_000), dwell_ms)
            records += [say(f"{name}:{slot}", "dwell", at_ms + t, t / 1_000) for t in beats_ms]
            at_ms += dwell_ms
    online, _ = through(records)
    assert list(join_all(lines(records), Reward())) == online
    assert sum(interaction.feedback.left for interaction in online) == len(online) - 1


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x95\xa6join/0\x00\x98\x80\x80", b"\x80"])
def test_bytes_that_are_no_join_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Join.from_bytes(data, Reward())


def test_what_is_remembered_of_a_page_is_small() -> None:
    n = 500
    wide = msgspec.structs.replace(
        page(),
        candidates=tuple(ItemId(f"candidate-{i}") for i in range(n)),
        dynamic=bytes(2 * 13 * n),
        blocks=bytes(8 * n),
    )
    join = Join(Reward())
    join.fold(wide)
    assert len(join.to_bytes()) < 1_000
