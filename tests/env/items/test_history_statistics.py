"""Item statistics of an imported history: those of the same impressions, at their own times."""

import math

import msgspec
import pytest
from builders import catalogue_named, folded, interaction
from past import AT_MS, card, history

from env.items.statistics import HALF_LIFE_MS, ItemStates
from env.reward import Reward
from env.vocabulary import Feedback, Scene

REWARD = Reward()
SCENE = Scene(0, "GB", "en", hour=-1)


def of(*records: object) -> ItemStates:
    states = ItemStates()
    for record in records:
        states.fold_history(record, REWARD)  # type: ignore[arg-type]
    return states


def test_a_view_counts_as_a_closed_interaction_of_its_time() -> None:
    feedback = Feedback(seen=True, left=True, dwell_s=20.0, like=True)
    closed = msgspec.structs.replace(
        interaction("a", feedback=feedback, reward=REWARD.of(feedback, 30.0)),
        closed_ms=AT_MS,
        duration_s=30.0,
        scene=SCENE,
    )
    imported = of(history([card("a")], [20.0], [(0, "like")], scene=SCENE))
    assert imported.to_bytes() == folded([closed]).to_bytes()


def test_an_older_view_is_worth_half_of_one_of_a_day_later() -> None:
    late = history([card("late")], [20.0])
    early = history([card("early")], [20.0], first_ms=AT_MS - HALF_LIFE_MS)
    for records in ((early, late), (late, early)):
        catalogue = catalogue_named(["early", "late"])
        plays = of(*records).aligned(catalogue).popularity.everywhere.everywhere
        assert plays[1] / plays[0] == pytest.approx(2.0)


def test_a_view_of_unknown_dwell_has_no_reward() -> None:
    catalogue = catalogue_named(["a"])
    items = of(history([card("a")], [math.nan], [(0, "like")])).aligned(catalogue)
    assert (items.impressions[0], items.rewarded[0]) == (1.0, 0.0)


def test_an_unknown_item_has_no_statistics() -> None:
    assert len(of(history([card("gone", known=False)], [20.0]))) == 0


def test_a_view_of_long_ago_moves_nothing_but_counts() -> None:
    old = history([card("a")], [20.0], first_ms=AT_MS - 10_000 * HALF_LIFE_MS)
    items = of(history([card("b")], [20.0]), old).aligned(catalogue_named(["a", "b"]))
    assert items.impressions.tolist()[:2] == [1.0, 1.0]
    assert items.popularity.everywhere.everywhere[0] < 1e-200
