"""Imported histories: columns to views and back, and keys by which a view is known again."""

import math

import numpy as np
from past import AT_MS, MINUTE_MS, card, history

from env.history import MAX_VIEWS, n_views, past_views, view_keys, without
from env.records import PastEvent, decode_record, encode_record
from env.vocabulary import Feedback

CARDS = [card("a"), card("b"), card("gone", known=False)]
RECORD = history(CARDS, [20.0, math.nan, 5.0], [(0, "like"), (1, "share")])


def test_a_view_is_told_as_a_client_tells_it() -> None:
    views = list(past_views(RECORD))
    assert [view.card.item_id for view in views] == ["a", "b", "gone"]
    assert [view.at_ms for view in views] == [AT_MS + MINUTE_MS * k for k in range(3)]
    assert [each[:2] for each in views[0].reports] == [
        ("impression", 0),
        ("dwell", 20),
        ("like", 0),
        ("leave", 0),
    ]
    assert views[0].feedback == Feedback(seen=True, left=True, dwell_s=20.0, like=True)
    assert [each[:2] for each in views[1].reports] == [("impression", 0), ("share", 0)]
    assert views[1].feedback == Feedback(seen=True, share=True), "nobody knows how long"
    assert [view.is_known for view in views] == [True, True, False]


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode_record(encode_record(RECORD)) == RECORD
    assert n_views(RECORD) == 3


def test_some_views_keep_their_cards_and_events() -> None:
    kept = without(RECORD, np.array([False, True, True]))
    assert [c.item_id for c in kept.cards] == ["b", "gone"]
    assert kept.events == (PastEvent(0, "share"),)
    assert list(past_views(kept)) == list(past_views(RECORD))[1:]
    assert (kept.user, kept.at_ms, kept.scene) == (RECORD.user, RECORD.at_ms, RECORD.scene)
    assert without(RECORD, np.ones(3, dtype=np.bool_)) is RECORD


def test_a_view_has_its_own_key_whatever_stands_beside_it() -> None:
    keys = view_keys(RECORD)
    assert view_keys(without(RECORD, np.array([False, True, True]))).tolist() == keys[1:].tolist()
    many = history([card(f"v{k}") for k in range(MAX_VIEWS)], [1.0] * MAX_VIEWS)
    moved = history(
        [card(f"v{k}") for k in range(MAX_VIEWS)], [1.0] * MAX_VIEWS, first_ms=AT_MS + 1
    )
    both = np.concatenate([view_keys(many), view_keys(moved)])
    assert len(np.unique(both)) == 2 * MAX_VIEWS
