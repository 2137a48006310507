"""Each kind of feedback is one row, which the wire, the folds, the reward and the world read."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from env.columns.schema import N_STATIC
from env.feedback import DRAWN_REACTIONS, FIRST_KINDS, KINDS, REACTIONS, ROWS, SHIPPED, KindRow
from env.records import (
    Card,
    Drawn,
    FeedbackRecord,
    PageRecord,
    RuleRecord,
    UserRecord,
    decode_record,
    encode_record,
    pack_halves,
)
from env.reward import REWARDED, Reward
from env.users.fold import fold
from env.users.open_cards import OpenCard, hear
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Feedback,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserKey,
)
from env.world.answers import Answer, Chances
from env.world.simulation import EVENTS
from replay.join.join import merge
from replay.join.rows import FLAGS

ROOT = Path(__file__).parents[2]
USER = UserKey("u")
VALUE = 3.5
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
each_reaction = pytest.mark.parametrize("kind", REACTIONS)


def record(row: KindRow) -> FeedbackRecord:
    value = VALUE if row.signal.value != "none" else 0.0
    return FeedbackRecord("e", DecisionId("p:0"), 9, USER, SessionId("s"), row.kind, value)


def page() -> PageRecord:
    block = pack_halves(np.full(N_STATIC, 0.125, dtype=np.float32))
    return PageRecord(
        page_id=PageId("p"),
        at_ms=5,
        user=USER,
        session=SessionId("s"),
        scene=Scene(5),
        candidates=(ItemId("i"),),
        blocks=b"",
        dynamic=b"",
        shared=b"",
        feature_schema=4,
        rules=(RuleRecord("open", b"\x01", b"\x01"),),
        slots=(0,),
        drawn=(Drawn(0, 0, 1.0),),
        cards=(Card(ItemId("i"), block, CreatorId("c"), ("t",), 30.0),),
        reasons=("new",),
        policy="uniform@0",
        explorer={},
        eps=0.1,
    )


def test_the_table_has_a_row_for_each_kind_of_the_log_in_its_order() -> None:
    assert tuple(KINDS)[: len(FIRST_KINDS)] == FIRST_KINDS


def test_bits_are_distinct_powers_of_two_and_what_says_something_of_interest_has_one() -> None:
    bits = [row.bit for row in ROWS if row.bit]
    assert bits == [2**i for i in range(len(bits))]
    assert all(row.bit for row in ROWS if row.is_reaction or row.signal.interest)
    assert not any(row.bit for row in ROWS if row.is_watching or row.signal.undoes)


@each_row
def test_the_wire_takes_it_with_a_value_only_where_it_has_one(row: KindRow) -> None:
    has_value = row.signal.value != "none"
    assert SHIPPED.refusal(row.kind, VALUE if has_value else None, "") == ""
    assert "value: expected" in SHIPPED.refusal(row.kind, None if has_value else VALUE, "")


@each_row
def test_the_log_keeps_it(row: KindRow) -> None:
    assert decode_record(encode_record(record(row))) == record(row)


@each_row
def test_the_user_fold_moves_by_its_signal_and_its_consequence(row: KindRow) -> None:
    shown = fold(fold(None, UserRecord(USER, 1, profile=Profile())), page())
    assert shown is not None
    told = fold(shown, record(row))
    assert told is not None
    (card,) = told.pages[0].cards
    assert card.impressed
    assert card.answered == row.answers
    assert card.events == row.bit
    assert card.dwell_s == (VALUE if row.has_seconds else 0.0)
    assert (told.long_sum != shown.long_sum) == bool(row.signal.interest or row.answers)
    assert card.unwanted == (row.consequence == "turn_away")
    follows = [*told.follows] != [*shown.follows]
    assert follows == (row.consequence == "follow_creator")


@each_row
def test_an_open_card_sums_its_signal(row: KindRow) -> None:
    card = OpenCard(0, 1, b"", CreatorId("c"), (), 30.0)
    beyond_watching = hear(card, row.kind, 0.0, usual=0.0).signal
    assert beyond_watching == row.signal.interest


@each_row
def test_the_join_merges_it_into_feedback(row: KindRow) -> None:
    value = VALUE if row.signal.value != "none" else 1.0
    is_other = not row.is_fixed and not row.signal.undoes
    expected = Feedback(
        seen=True,
        dwell_s=VALUE if row.has_seconds else 0.0,
        others=((row.kind, value),) if is_other else (),
    )
    if row.is_reaction:
        expected = msgspec.structs.replace(expected, **{row.kind: True})
    assert merge(Feedback(), record(row)) == expected


@each_reaction
def test_a_reaction_is_rewarded_by_the_weight_of_its_name(kind: str) -> None:
    reward = msgspec.structs.replace(Reward(), **{kind: 0.375})
    feedback = msgspec.structs.replace(Feedback(seen=True, left=True), **{kind: True})
    assert reward.of(feedback, 30.0) == 0.375


def test_reward_feedback_and_exports_have_exactly_the_reactions_of_the_table() -> None:
    flags = {field.name for field in msgspec.structs.fields(Feedback) if field.type is bool}
    assert flags - {"seen", "left"} == set(REACTIONS) == set(REWARDED)
    assert ("seen", "left", *REACTIONS) == FLAGS
    assert len(REWARDED) == len(REACTIONS)


@pytest.mark.parametrize("kind", DRAWN_REACTIONS)
def test_the_world_draws_it_with_an_exact_chance_and_reports_it(kind: str) -> None:
    assert KINDS[kind].is_reaction
    assert kind in Answer._fields
    assert kind in Chances._fields
    assert kind in EVENTS


def test_the_web_client_sends_kinds_of_the_table_only() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "serve/http/web").glob("*.js")]
    told = [kind for text in texts for kind in re.findall(r"tell\(\"(\w+)\"", text)]
    turned = [kinds for text in texts for kinds in re.findall(r"turn\(\"(\w+)\", \"(\w+)\"", text)]
    sent = {*told, *(kind for kinds in turned for kind in kinds)}
    assert sent >= {"impression", "like", "unlike", "save", "unsave", "unfollow"}
    assert sent <= KINDS.keys()


@each_row
def test_the_http_page_explains_it(row: KindRow) -> None:
    text = (ROOT / "docs/http.md").read_text("utf-8").partition("## Feedback")[2]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert any(f"`{row.kind}`" in line.split("|")[1] for line in lines)
