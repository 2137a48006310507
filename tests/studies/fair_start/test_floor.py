import msgspec
import numpy as np
import pytest
from served_worlds import CONFIG, make

from env.records import PageRecord
from policies.slots.rules import FAIR_START
from serve.feed.pipeline import Pipeline
from tests.studies.fair_start.floor import (
    NEVER_MS,
    FloorSize,
    ReservedDraws,
    UploadWaits,
    run_floor,
)
from tests.studies.served_world.cards import Shown

SIZE = FloorSize(
    users=120,
    shard=20,
    cards_a_day=1_000,
    items=400,
    warm_days=0.2,
    days=1.2,
    owed_share=0.1,
    surge_share=0.6,
    drain_days=0.25,
    again=1,
)
HOUR_MS = 3_600_000


class Judges:
    """Judges pages as they are, as a user tampered with them, and as if drawn otherwise."""

    def __init__(self) -> None:
        self.fair = ReservedDraws(again=60, seed=1)
        self.other_propensity = ReservedDraws(again=0, seed=1)
        self.other_card = ReservedDraws(again=0, seed=1)
        self.always_first = ReservedDraws(again=0, seed=1)

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        self.fair.see(page, pipeline)
        self.other_propensity.see(with_other_propensity(page), pipeline)
        self.other_card.see(with_other_card(page), pipeline)
        for _ in range(10):
            self.always_first.see(always_first(page), pipeline)


@pytest.fixture(scope="module")
def judges() -> Judges:
    judges = Judges()
    make(witness=judges, uploads_a_day=200.0).run(600)
    return judges


def test_a_floor_is_measured_with_a_surge_and_all_reserved_pages_drawn_again() -> None:
    told: dict[str, tuple[int, int]] = {}

    def advance(step: str, done: int, total: int) -> None:
        told[step] = done, total

    result = run_floor(SIZE, preset="kuairand", seed=1, advance=advance, config=CONFIG)
    assert result.judged == sum(market.judged for market in result.markets) > 0
    assert 0.0 <= result.met_share <= 1.0
    met = sum(market.judged * market.met_share for market in result.markets)
    assert met == pytest.approx(result.met_share * result.judged)
    assert abs(result.cost) < 8.0 * result.cost_se
    assert abs(result.page_cost) < 8.0 * result.page_cost_se
    assert result.page_cost_se < result.cost_se, "the same users at the same moment differ by less"
    assert result.redrawn_mismatches == 0
    assert result.reserved_draws >= 2 * result.redrawn_pages > 0
    assert 1e-4 < result.reserved_p <= 1.0
    assert result.surge.uploads > 0
    assert 0.0 <= result.surge.gini_waiting < 1.0
    assert result.surge.alarm, "a market where most cards are owed is overdrawn"
    assert len(told) == 6
    assert all(done >= total for step, (done, total) in told.items() if step != "surge")


def test_a_page_that_does_not_come_again_is_a_mismatch(judges: Judges) -> None:
    assert judges.fair.n_pages > 5
    assert judges.fair.mismatches == 0
    for tampered in (judges.other_propensity, judges.other_card):
        assert tampered.n_pages == judges.fair.n_pages
        assert tampered.mismatches >= tampered.n_pages


def test_draws_that_follow_their_pages_are_told_from_others(judges: Judges) -> None:
    assert judges.fair.n_draws >= 61 * judges.fair.n_pages
    assert judges.fair.p_value() > 1e-3
    assert judges.always_first.p_value() < 1e-3


def test_without_a_reserved_slot_there_is_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="reserved slot"):
        ReservedDraws(again=0, seed=1).p_value()


def test_waits_are_counted_from_the_cards_that_were_seen() -> None:
    at_ms = HOUR_MS * np.array([1, 2, 3, 4, 5, 30])
    row = np.array([7, 5, 7, 5, 9, 5])
    zeros, nothing = np.zeros(6, dtype=np.int64), np.zeros(6)
    shown = Shown(at_ms, zeros, zeros, zeros, row, zeros > 0, nothing, nothing)
    rows, twos = np.array([5, 7, 8]), np.full(3, 2)
    born_ms = HOUR_MS * np.array([1, 1, 2])
    waits = UploadWaits.of(shown, rows, np.array([0, 1, 1]), born_ms, twos)
    assert waits.first_ms.tolist() == [2 * HOUR_MS, HOUR_MS, NEVER_MS]
    assert waits.paid_ms.tolist() == [4 * HOUR_MS, 3 * HOUR_MS, NEVER_MS]
    assert waits.are_met(2 * HOUR_MS).tolist() == [False, True, False]
    assert waits.are_met(3 * HOUR_MS).tolist() == [True, True, False]
    assert waits.born_in(2 * HOUR_MS, 3 * HOUR_MS).rows.tolist() == [8]
    threes = UploadWaits.of(shown, rows, np.array([0, 1, 1]), born_ms, np.full(3, 3))
    assert threes.paid_ms.tolist() == [30 * HOUR_MS, NEVER_MS, NEVER_MS]


def with_other_propensity(page: PageRecord) -> PageRecord:
    """Return the page as if the first card had been a little less likely."""
    first, *rest = page.drawn
    first = msgspec.structs.replace(first, propensity=first.propensity * (1.0 - 1e-9))
    return msgspec.structs.replace(page, drawn=(first, *rest))


def with_other_card(page: PageRecord) -> PageRecord:
    """Return the page as if the first card had been another one that its slot may take."""
    first, *rest = page.drawn
    taken = {drawn.action for drawn in page.drawn}
    mask = int.from_bytes(page.rules[page.slots[first.slot]].mask, "little")
    free = [k for k in range(len(page.candidates)) if mask >> k & 1 and k not in taken]
    first = msgspec.structs.replace(first, action=(free or [first.action])[0], propensity=0.0)
    return msgspec.structs.replace(page, drawn=(first, *rest))


def always_first(page: PageRecord) -> PageRecord:
    """Return the page as if its reserved slot had taken the first that it may."""
    drawn = []
    for decision in page.drawn:
        rule = page.rules[page.slots[decision.slot]]
        mask = int.from_bytes(rule.mask, "little")
        action = (mask & -mask).bit_length() - 1 if rule.name == FAIR_START else decision.action
        drawn.append(msgspec.structs.replace(decision, action=action))
    return msgspec.structs.replace(page, drawn=tuple(drawn))
