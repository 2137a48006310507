"""A user's state after an imported history: what the same cards on pages would have made of it."""

import math

import msgspec
import numpy as np
import pytest
from past import AT_MS, MINUTE_MS, card, history

from env.records import (
    BlockRecord,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    PageRecord,
    UserRecord,
    item_key,
)
from env.users.answers import read_answers
from env.users.fold import fold
from env.users.state import (
    UserState,
    blocked_creators,
    decode_state,
    encode_state,
    followed,
    long_interest,
    newcomer,
    seen_keys,
    unwanted_keys,
)
from env.vocabulary import ItemId, PageId, Profile, Scene, SessionId, UserId, UserKey, decision_id

USER = UserKey("u")
CARDS = [card(f"v{k}", tags=("cats",) if k % 2 else ("dogs", "sea")) for k in range(40)]
DWELLS = [25.0 if k % 3 else 2.0 for k in range(40)]
LIKES = [(k, "like") for k in range(0, 40, 5)]


def after(record: object, state: UserState | None = None) -> UserState:
    folded = fold(state or newcomer(Profile(registered_ms=1)), record)  # type: ignore[arg-type]
    assert folded is not None
    return folded


def pages_of_the_same() -> list[PageRecord | FeedbackRecord]:
    """Return a page a card, whose answers are those of the history."""
    records: list[PageRecord | FeedbackRecord] = []
    for k, (shown, dwell_s) in enumerate(zip(CARDS, DWELLS, strict=True)):
        at_ms, page_id = AT_MS + MINUTE_MS * k, PageId(f"p{k}")
        records.append(
            PageRecord(
                page_id,
                at_ms,
                USER,
                SessionId("s"),
                Scene(at_ms),
                (shown.item_id,),
                b"",
                b"",
                b"",
                5,
                (),
                (),
                (Drawn(0, 0, 1.0),),
                (shown,),
                ("random",),
                "uniform@0",
                {},
                0.0,
            )
        )
        told: list[tuple[FeedbackKind, float]] = [
            ("impression", 0.0),
            ("dwell", dwell_s),
            ("leave", 0.0),
        ]
        told[2:2] = [("like", 0.0) for row, _ in LIKES if row == k]
        records += [
            FeedbackRecord(
                f"{kind}{k}",
                decision_id(page_id, 0),
                at_ms,
                USER,
                SessionId("s"),
                kind,
                value,
            )
            for kind, value in told
        ]
    return records


def test_a_history_counts_as_the_same_cards_on_pages_do() -> None:
    imported, lived = after(history(CARDS, DWELLS, LIKES)), newcomer(Profile(registered_ms=1))
    for record in pages_of_the_same():
        lived = after(record, lived)
    assert imported.n_cards == lived.n_cards == 40
    for name in ("evidence", "plays", "watch", "dwell_s"):
        assert getattr(imported, name) == pytest.approx(getattr(lived, name))
    np.testing.assert_allclose(long_interest(imported), long_interest(lived), rtol=1e-5)
    assert imported.seen == lived.seen
    assert imported.answers == lived.answers
    for name in ("creators", "tags", "languages"):
        mine, theirs = getattr(imported, name), getattr(lived, name)
        assert [tally.name for tally in mine] == [tally.name for tally in theirs]
        assert [t.signal for t in mine] == pytest.approx([t.signal for t in theirs])
    assert [answer.key for answer in imported.topic_answers] == [a.key for a in lived.topic_answers]


def test_a_history_is_in_no_session_and_opens_no_page() -> None:
    state = after(history(CARDS, DWELLS))
    assert (state.session, state.position, state.pages) == ("", 0, ())
    assert state.session_evidence == 0.0
    assert state.last_ms == AT_MS + 39 * MINUTE_MS


def test_visits_of_a_history_count_as_returns() -> None:
    first = history(CARDS[:3], DWELLS[:3])
    later = history(CARDS[3:6], DWELLS[3:6], first_ms=AT_MS + 86_400_000)
    state = after(later, after(first))
    assert state.n_returns == 1
    assert state.last_gap == pytest.approx(math.log(2), abs=0.01)
    again = after(first, state)
    assert (again.n_returns, again.last_ms) == (1, state.last_ms), "older views end no visit"


def test_reactions_follow_and_turn_away() -> None:
    events = [(0, "follow"), (1, "not_interested"), (2, "not_interested")]
    shown = [CARDS[0], CARDS[1], msgspec.structs.replace(CARDS[2], creator=CARDS[1].creator)]
    state = after(history(shown, [math.nan] * 3, events))
    assert followed(state) == {"by-v0"}
    assert blocked_creators(state) == ("by-v1",)
    assert len(unwanted_keys(state)) == 2
    assert read_answers(state.answers)[0].tolist() == [], "of no card the end is known"


def test_an_unknown_item_is_seen_and_no_more() -> None:
    state = after(history([card("gone", known=False)], [25.0], [(0, "like")]))
    assert seen_keys(state).tolist() == [item_key(ItemId("gone")) & 0xFFFFFFFF]
    assert (state.n_cards, state.evidence, state.answers) == (0, 0.0, b"")


def test_a_history_makes_nobody_known_and_survives_the_row() -> None:
    record = history(CARDS, DWELLS, LIKES)
    assert fold(None, record) is None
    state = after(record)
    assert decode_state(encode_state(state)) == state
    assert fold(state, UserRecord(USER, 3, UserId(""), None)) is None


def test_a_history_does_not_undo_a_block_that_was_made_here() -> None:
    creator = CARDS[0].creator
    blocked = after(BlockRecord(USER, AT_MS, (creator,)))
    state = after(history([CARDS[0]], [20.0], [(0, "follow")]), blocked)
    assert blocked_creators(state) == (creator,)
    assert creator not in followed(state)


def test_a_history_says_what_the_settings_of_its_import_say_about_interest() -> None:
    shipped = history([CARDS[0]], [20.0], [(0, "like")])
    like = msgspec.structs.replace(shipped.events[0], interest=-4.0)
    other = msgspec.structs.replace(shipped, events=(like,))
    values = [read_answers(after(record).answers)[1].tolist() for record in (shipped, other)]
    assert values == [[2.0], [-3.0]]
    with pytest.raises(ValueError, match="expected reactions"):
        history([CARDS[0]], [20.0], [(0, "purchase")])
