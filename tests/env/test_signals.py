"""Signals of one's own: how they merge, what they are worth, and what states of users keep."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from env.feedback import (
    KINDS,
    MAX_WINDOW_S,
    SHIPPED,
    Signal,
    Signals,
    by_name,
)
from env.records import FeedbackRecord, decode_record, encode_record
from env.reward import Reward
from env.users.answers import value_of
from env.users.open_cards import OpenCard, hear
from env.vocabulary import CreatorId, DecisionId, Feedback, SessionId, UserKey
from replay.join.join import merge

GIFT = Signal("money", currency="EUR", most=10.0, weight=0.5, interest=2.0)
OWN = Signals(
    {
        "gift": GIFT,
        "refund": Signal(undoes="gift"),
        "pages_read": Signal("number", "pages", most=9.0, weight=0.25),
        "cheer": Signal(weight=0.125),
        "like": msgspec.structs.replace(KINDS["like"].signal, weight=3.0, interest=0.5),
    }
)
TALLIES = by_name(OWN.tallies)
REWARD = Reward.weighing(OWN, valid_play=0.5, long_view=0.5, version=7)


def said(kind: str, value: float = 0.0, table: Signals = OWN) -> FeedbackRecord:
    interest, undoes = table.carried(kind) if kind in table.rows else (None, None)
    return FeedbackRecord(
        "e",
        DecisionId("p:0"),
        9,
        UserKey("u"),
        SessionId("s"),
        kind,
        value,
        interest=interest,
        undoes=undoes,
    )


def merged(*records: FeedbackRecord) -> Feedback:
    feedback = Feedback()
    for record in records:
        feedback = merge(feedback, record, TALLIES)
    return feedback


def card(*records: FeedbackRecord) -> OpenCard:
    heard = OpenCard(0, 7, b"", CreatorId("c"), (), 30.0)
    for r in records:
        heard = hear(heard, r.kind, r.value, 0.0, interest=r.interest, undoes=r.undoes)
    return heard


def test_money_sums_a_number_is_the_largest_and_a_flag_is_a_flag() -> None:
    feedback = merged(
        said("gift", 1.1), said("pages_read", 3.0), said("gift", 2.2), said("pages_read", 2.0)
    )
    assert feedback.others == (("gift", 3.3), ("pages_read", 3.0))
    assert merged(said("cheer"), said("cheer")).others == (("cheer", 1.0),)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), st.data())
def test_the_order_of_reports_changes_nothing(millionths: list[int], data: st.DataObject) -> None:
    records = [said("gift", n / 1e6) for n in millionths]
    records += [said("pages_read", n % 9) for n in millionths]
    records += [said("cheer"), said("like"), said("dwell", 3.0)]
    shuffled = data.draw(st.permutations(records))
    assert merged(*shuffled) == merged(*records)
    assert dict(merged(*records).others)["gift"] == sum(millionths) / 1e6


def test_an_undo_takes_back_what_stands_before_it_in_the_log() -> None:
    for kind, undo in (("like", "unlike"), ("save", "unsave"), ("follow", "unfollow")):
        assert merged(said(kind), said(undo)) == Feedback(seen=True)
        assert merged(said(kind), said(undo), said(kind)) == merged(said(kind))
        assert merged(said(undo), said(kind)) == merged(said(kind))
    assert merged(said("gift", 4.0), said("gift", 1.0), said("refund")).others == ()


def test_an_unknown_kind_means_seen_and_nothing_else() -> None:
    assert merged(said("hug", 3.0)) == Feedback(seen=True)
    assert merge(Feedback(), said("gift", 3.0)) == Feedback(seen=True), "not in the shipped table"
    told = card(said("hug", 3.0))
    assert (told.impressed, told.signal, told.is_told) == (True, 0.0, False)


def test_a_value_is_worth_its_weight_within_its_range() -> None:
    watched = Feedback(seen=True, left=True, dwell_s=9.0)
    for value, worth in ((3.0, 1.5), (10.0, 5.0), (25.0, 5.0)):
        feedback = msgspec.structs.replace(watched, others=(("gift", value),), like=True)
        assert REWARD.of(feedback, 60.0) == 0.5 + 3.0 + worth
    unknown = msgspec.structs.replace(watched, others=(("hug", 3.0),))
    assert REWARD.of(unknown, 60.0) == 0.5


def test_the_rewards_of_the_first_kinds_are_what_they_were() -> None:
    assert Reward.weighing(SHIPPED, valid_play=0.5, long_view=0.5, version=1) == Reward()
    assert (Reward().like, Reward().share, Reward().not_interested) == (0.5, 1.0, -1.0)
    assert (Reward().low(), Reward().high()) == (-1.0, 4.5)


def test_a_reward_lies_in_the_range_of_the_signals_that_a_log_has() -> None:
    others = [(), (("gift", 10.0),), (("report", 1.0),), (("gift", 10.0), ("report", 1.0))]
    for each in others:
        names = [name for name, _ in each]
        reward = REWARD.of(Feedback(seen=True, left=True, others=each), 60.0)
        assert REWARD.low(names) <= reward <= REWARD.high(names)
    assert REWARD.high(["gift"]) - REWARD.high() == 5.0
    assert REWARD.low(["report"]) - REWARD.low() == -2.0


def test_a_record_carries_what_is_not_as_shipped_and_nothing_else() -> None:
    assert OWN.carried("share") == OWN.carried("save") == OWN.carried("unlike") == (None, None)
    assert OWN.carried("like") == (0.5, None)
    assert OWN.carried("gift") == (2.0, None)
    assert OWN.carried("refund") == (None, "gift")
    for kind in ("like", "gift", "refund", "share"):
        assert decode_record(encode_record(said(kind))) == said(kind)
    assert b"interest" not in encode_record(said("share"))


def test_a_users_state_depends_on_the_record_alone() -> None:
    assert card(said("gift", 1.0)).signal == 2.0
    assert card(said("gift", 1.0), said("gift", 9.0)).signal == 2.0
    assert card(said("like")).signal == 0.5
    assert card(said("like", table=SHIPPED)).signal == 1.0
    assert card(said("like", table=SHIPPED), said("like")).signal == 0.5, "the last one rules"
    for kind, undo in (("gift", "refund"), ("like", "unlike"), ("save", "unsave")):
        taken_back = card(said(kind, 1.0), said(undo))
        assert (taken_back.signal, taken_back.is_told) == (0.0, True)
        assert card(said(kind, 1.0), said(undo), said(kind, 1.0)).signal == (
            card(said(kind, 1.0)).signal
        )


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_an_open_card_and_a_closed_interaction_take_own_signals_alike(n: int) -> None:
    interests = dict(OWN.interests())
    kinds = ("gift", "like", "save", "cheer", "report", "pages_read")
    for chosen in itertools.combinations(kinds, n):
        records = [said("dwell", 20.0), *(said(kind, 1.0) for kind in chosen)]
        closed = msgspec.structs.replace(merged(*records), left=True)
        assert card(*records).value == value_of(closed, 30.0, interests)


@pytest.mark.parametrize(
    ("kind", "value", "currency", "reason"),
    [
        ("gift", 1.0, "", ""),
        ("gift", 1.0, "EUR", ""),
        ("gift", 1.0, "USD", "currency: expected EUR with gift, got USD"),
        ("gift", None, "", "value: expected EUR with gift, got none"),
        ("gift", -0.01, "", "value: expected 0 to 10 EUR with gift, got -0.01"),
        ("gift", float("nan"), "", "value: expected 0 to 10 EUR with gift, got nan"),
        ("pages_read", 1.0, "EUR", "currency: expected none with pages_read, got EUR"),
        ("cheer", 1.0, "", "value: expected none with cheer, got 1"),
        ("cheer", 0.0, "", ""),
        ("like", None, "USD", "currency: expected none with like, got USD"),
    ],
)
def test_an_event_is_refused_with_its_field(
    kind: str, value: float | None, currency: str, reason: str
) -> None:
    assert OWN.refusal(kind, value, currency) == reason


def test_windows_of_what_ships_are_within_the_bound() -> None:
    assert {row.signal.window_s for row in KINDS.values()} <= {MAX_WINDOW_S, 7 * 86_400.0}
