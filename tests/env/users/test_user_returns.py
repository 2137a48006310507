"""What a user's coming back says, counted alike by the fold and by the page that is asked for."""

import math

import msgspec
import pytest
from builders import NOW_MS

from env.columns.scales import GAP_DECAY, GAP_PRIOR, MEAN_BAIT, TYPICAL_GAP, observed
from env.columns.schema import SCHEMA
from env.records import Card, Drawn, FeedbackRecord, PageRecord
from env.users.fold import BAIT_STEP, fold
from env.users.state import (
    DAY_MS,
    SESSION_SILENCE_MS,
    UserState,
    come_back,
    decode_state,
    encode_state,
    newcomer,
)
from env.vocabulary import ItemId, PageId, Profile, Scene, SessionId, UserKey, decision_id

USER = UserKey("u")


def page(name: str, session: str, at_ms: int, bait: float | None = None) -> PageRecord:
    return PageRecord(
        page_id=PageId(name),
        at_ms=at_ms,
        user=USER,
        session=SessionId(session),
        scene=Scene(at_ms),
        candidates=(),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=SCHEMA,
        rules=(),
        slots=(0,),
        drawn=(Drawn(0, 0, 1.0),),
        cards=(Card(ItemId("i"), b"", bait=bait),),
        reasons=("",),
        policy="any@0",
        explorer={},
        eps=0.0,
    )


def dwell(name: str, session: str, at_ms: int, dwell_s: float) -> FeedbackRecord:
    decision = decision_id(PageId(name), 0)
    return FeedbackRecord("e", decision, at_ms, USER, SessionId(session), "dwell", dwell_s)


def after(*records: PageRecord | FeedbackRecord) -> UserState:
    state: UserState | None = newcomer(Profile())
    for record in records:
        state = fold(state, record)
    assert state is not None
    return state


def test_a_page_counts_the_gap_that_the_fold_then_counts() -> None:
    state = after(page("a", "s1", NOW_MS))
    back_ms = NOW_MS + 3 * DAY_MS
    asked, told = come_back(state, back_ms), fold(state, page("b", "s2", back_ms))
    assert told is not None
    assert asked.n_returns == told.n_returns == 1
    assert asked.last_gap == told.last_gap == math.log1p(3.0)
    assert observed(asked).usual_gap == observed(told).usual_gap


def test_a_first_visit_is_no_return() -> None:
    state = after(page("a", "s1", NOW_MS))
    assert state.n_returns == 0
    assert observed(state).usual_gap == pytest.approx(TYPICAL_GAP)


def test_another_session_without_a_silence_is_no_return() -> None:
    state = after(page("a", "s1", NOW_MS), page("b", "s2", NOW_MS + SESSION_SILENCE_MS))
    assert (state.n_returns, state.last_gap) == (0, 0.0)
    later = NOW_MS + 2 * SESSION_SILENCE_MS + 1
    assert come_back(state, later).n_returns == 1


def test_the_usual_gap_is_a_decayed_mean_shrunk_to_the_typical() -> None:
    gaps_days = (1, 4, 2)
    at_ms, records = NOW_MS, [page("0", "s0", NOW_MS)]
    for k, days in enumerate(gaps_days, start=1):
        at_ms += days * DAY_MS
        records.append(page(str(k), f"s{k}", at_ms))
    weights = [GAP_DECAY**2, GAP_DECAY, 1.0]
    total = sum(w * math.log1p(d) for w, d in zip(weights, gaps_days, strict=True))
    expected = (total + GAP_PRIOR * TYPICAL_GAP) / (sum(weights) + GAP_PRIOR)
    assert observed(after(*records)).usual_gap == pytest.approx(expected)


def test_seconds_of_a_visit_are_those_of_its_cards_and_start_anew_with_the_next() -> None:
    state = after(
        page("a", "s1", NOW_MS),
        dwell("a", "s1", NOW_MS + 1000, 9.0),
        dwell("a", "s1", NOW_MS + 2000, 12.0),
        page("b", "s1", NOW_MS + 3000),
        dwell("b", "s1", NOW_MS + 4000, 5.0),
    )
    assert state.session_watched_s == 17.0
    begun = fold(state, page("c", "s2", NOW_MS + DAY_MS))
    assert begun is not None
    assert begun.session_watched_s == 0.0


def test_bait_of_late_moves_with_what_was_on_screen() -> None:
    state = after(page("a", "s1", NOW_MS, bait=1.0), page("b", "s1", NOW_MS + 1, bait=0.0))
    assert state.bait_lately == 0.0
    seen = fold(state, dwell("a", "s1", NOW_MS + 1000, 9.0))
    assert seen is not None
    assert seen.bait_lately == pytest.approx(BAIT_STEP * (1.0 - MEAN_BAIT))


def test_bait_that_is_not_known_is_the_mean() -> None:
    state = after(page("a", "s1", NOW_MS), dwell("a", "s1", NOW_MS + 1000, 9.0))
    assert state.bait_lately == 0.0


def test_a_row_from_before_there_were_returns_is_read_as_without() -> None:
    state = after(page("a", "s1", NOW_MS))
    fields = msgspec.msgpack.decode(encode_state(state))
    former = decode_state(msgspec.msgpack.encode(fields[:-5]))
    assert former == state
