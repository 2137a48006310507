"""Whole lives from a log: users in their own order, gaps by the calendar, ends that are known."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_DYNAMIC, N_SHARED, N_STATIC, SCHEMA
from env.pages.lives import NEVER, NO_PAGE, Lives, join_lives
from env.records import (
    Card,
    Drawn,
    FeedbackRecord,
    ItemRecord,
    LogLine,
    PageRecord,
    Record,
    RuleRecord,
    block_hash,
    item_key,
    pack_halves,
)
from env.reward import Reward
from env.vocabulary import ItemId, PageId, Scene, SessionId, UserKey, decision_id
from replay.join.lives import read_life_shards
from replay.join.our_log import LogSource

DAY_MS = 86_400_000
N_ITEMS = 6
BLOCKS = [pack_halves(np.full(N_STATIC, row / 8.0, dtype=np.float32)) for row in range(N_ITEMS)]


def _page(user: str, session: int, day: float, *, n: int, seen: int = 2) -> list[Record]:
    """Return a page of two cards out of n candidates, and that so many of them were seen."""
    at_ms = round(day * DAY_MS)
    page_id, user = PageId(f"{user}-{session}-{at_ms}"), UserKey(user)
    rule = RuleRecord("", bytes([2**n - 1]), bytes([0b101]))
    page = PageRecord(
        page_id=page_id,
        at_ms=at_ms,
        user=user,
        session=SessionId(f"{session}"),
        scene=Scene(at_ms=at_ms),
        candidates=tuple(ItemId(str(row)) for row in range(n)),
        blocks=b"".join(block_hash(block) for block in BLOCKS[:n]),
        dynamic=pack_halves(np.full((n, N_DYNAMIC), day, dtype=np.float32)),
        shared=pack_halves(np.full(N_SHARED, float(session), dtype=np.float32)),
        feature_schema=SCHEMA,
        rules=(rule,),
        slots=(0, 0),
        drawn=(Drawn(0, 2, 0.25), Drawn(1, 0, 0.5)),
        cards=tuple(Card(ItemId(str(row)), BLOCKS[row], duration_s=60.0) for row in (2, 0)),
        reasons=("", ""),
        policy="p@1",
        explorer={},
        eps=0.25,
    )
    said: list[Record] = [page]
    for slot in range(seen):
        for kind, value in (("dwell", 30.0), ("leave", 0.0)):
            said.append(
                FeedbackRecord(
                    event_id=f"{kind}{slot}",
                    decision_id=decision_id(page_id, slot),
                    at_ms=at_ms + 1_000 * (slot + 1),
                    user=user,
                    session=page.session,
                    kind=kind,
                    value=value,
                )
            )
    return said


def _log(*pages: Sequence[Record]) -> LogSource:
    items: list[Record] = [
        ItemRecord(ItemId(str(row)), 0, block=block) for row, block in enumerate(BLOCKS)
    ]
    said = sorted((r for page in pages for r in page), key=lambda record: record.at_ms)

    def lines() -> Iterator[LogLine]:
        yield from (LogLine(i, record) for i, record in enumerate([*items, *said], start=1))

    return LogSource(lines, Reward())


def _lives(*pages: Sequence[Record], window_days: int = 3, n_shards: int = 1) -> Lives:
    shards = read_life_shards(_log(*pages).batches(), window_days=window_days, n_shards=n_shards)
    return join_lives(shards)


PAGES = (
    _page("anna", 1, 0.9, n=4),
    _page("bert", 1, 0.5, n=6, seen=1),
    _page("anna", 1, 0.91, n=3),
    _page("anna", 2, 2.1, n=4),  # 2 days by the calendar, less by the clock
    _page("anna", 3, 8.0, n=5),  # too late to be a return
    _page("anna", 4, 9.0, n=4),  # in time, but whoever did not come is not known yet
    _page("carl", 1, 9.0, n=4),  # nothing is known of what followed
    _page("dora", 1, 9.5, n=4),
)


def test_steps_are_lived_in_order_with_gaps_by_the_calendar() -> None:
    lives = _lives(*PAGES)
    assert set(lives.user.tolist()) == {item_key("anna"), item_key("bert")}
    anna = lives.select(lives.user == item_key("anna"))
    assert anna.gap_days[anna.leaves].tolist() == [2.0, NEVER]
    assert len(anna) == 6
    assert anna.session.tolist() == [0, 0, 0, 0, 1, 1]
    assert anna.action.tolist() == [2, 0] * 3
    assert anna.propensity.tolist() == [0.25, 0.5] * 3


def test_a_life_ends_before_the_session_of_which_nothing_is_known_yet() -> None:
    lives = _lives(*PAGES)
    anna = lives.select(lives.user == item_key("anna"))
    (last,) = anna.last_page.tolist()
    assert anna.shared[last, 0] == 3.0
    assert anna.last_mask[0].tolist() == [True] * 5 + [False]
    bert = lives.select(lives.user == item_key("bert"))
    assert bert.last_page.tolist() == [NO_PAGE]
    assert bert.gap_days.tolist() == [NEVER]
    assert len(bert) == 1


def test_candidates_are_those_of_the_page_to_the_last_bit_and_padded() -> None:
    lives = _lives(*PAGES)
    assert lives.rows.shape[1:] == (6, N_ACTION)
    assert lives.shared.shape[1] == N_SHARED
    step = int(np.flatnonzero(lives.life == 0)[0])
    rows = lives.rows[lives.page[step]]
    n = int(np.count_nonzero(np.abs(rows).sum(axis=1) > 0))
    np.testing.assert_array_equal(rows[:n, 0], np.arange(n) / 8.0)
    np.testing.assert_array_equal(rows[n:], 0.0)


def test_masks_are_without_the_cards_before_and_floors_within_them() -> None:
    lives = _lives(*PAGES)
    anna = lives.select(lives.user == item_key("anna"))
    assert anna.mask[0].tolist() == [True] * 4 + [False] * 2
    assert anna.mask[1].tolist() == [True, True, False, True, False, False]
    assert anna.floor[0].tolist() == [True, False, True, False, False, False]
    assert anna.floor[1].tolist() == [True] + [False] * 5
    assert (anna.eps == 0.25).all()


def test_users_are_the_same_however_many_shards_there_are() -> None:
    pages = [
        _page(f"u{user}", session, 2.0 * session + 0.01 * user, n=4)
        for user in range(12)
        for session in range(1, 4)
    ]
    few, many = _lives(*pages), _lives(*pages, n_shards=5)
    assert sorted(few.user.tolist()) == sorted(many.user.tolist())
    for key in few.user.tolist():
        one, other = few.select(few.user == key), many.select(many.user == key)
        for name in ("action", "reward", "gap_days", "leaves", "mask", "propensity"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.rows[one.page], other.rows[other.page])


def test_a_log_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="the log is too short"):
        _lives(_page("anna", 1, 0.9, n=4), _page("bert", 1, 1.5, n=4))
    with pytest.raises(ValueError, match="expected shards and days"):
        _lives(*PAGES, n_shards=0)
