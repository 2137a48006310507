import math
from typing import Any

import msgspec
import numpy as np
import pytest

from env.twin.model import ACTIONS, N_STATES, START, MiniConstants, MiniModel, level_after

NOURISH_SAME, NOURISH_DIVERSE, BAIT_SAME, BAIT_DIVERSE = range(4)
MODEL = MiniModel.of(MiniConstants())


def state(level: int, satiation: int, load: int) -> int:
    return (level * 4 + satiation) * 4 + load


def test_the_constants_are_frozen() -> None:
    """Learners' scores compare only under these; another set is another version of the env."""
    assert MiniConstants().sha256() == (
        "9079c1210e82312ba050caaf0be624b2603b6f1322fea0ede3ef3bc887e0cc98"
    )


@pytest.mark.parametrize("name", MiniConstants.__struct_fields__)
def test_every_constant_is_in_the_hash(name: str) -> None:
    value = getattr(MiniConstants(), name)
    other = value[::-1] if isinstance(value, tuple) else value / 2.0
    changed = msgspec.structs.replace(MiniConstants(), **{name: other})
    assert changed.sha256() != MiniConstants().sha256()


def test_a_life_begins_half_satisfied_and_rested() -> None:
    assert state(10, 0, 0) == START
    assert N_STATES == 336
    assert len(ACTIONS) == 4


def test_tables_hold_the_formulas() -> None:
    tired = state(16, 2, 3)  # S = .8
    assert math.isclose(
        MODEL.watch_s[tired, NOURISH_SAME], 17 * (0.85 + 0.24) * math.exp(-0.2) * (1 - 0.25)
    )
    assert math.isclose(MODEL.watch_s[tired, BAIT_DIVERSE], 17 * 1.10 * (0.85 + 0.24))
    assert math.isclose(
        MODEL.exit[tired, NOURISH_SAME], 1 / (1 + math.exp(3.1 - 0.24 - 0.5 + 0.15))
    )
    assert math.isclose(MODEL.exit[tired, BAIT_DIVERSE], 1 / (1 + math.exp(3.1 + 0.15 + 0.10)))
    assert math.isclose(MODEL.move[tired, NOURISH_DIVERSE], 0.06 * (1 - 0.56) * 0.05)
    assert math.isclose(MODEL.move[tired, BAIT_SAME], 0.06 * (0.4 + 0.48) * 0.3)
    assert math.isclose(MODEL.bored[tired, BAIT_SAME], 0.04 * (0.4 + 0.48))
    assert math.isclose(MODEL.comeback[16], 0.42 + 0.42 * 0.8)
    assert math.isclose(MODEL.churn[16], 0.004 * 0.2**2)


def test_only_a_topic_had_often_bores() -> None:
    assert MODEL.bored[state(10, 1, 0), NOURISH_SAME] == 0.0
    assert MODEL.bored[state(10, 2, 0), NOURISH_DIVERSE] == 0.0
    assert MODEL.bored[state(10, 2, 0), NOURISH_SAME] > 0.0


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        (NOURISH_SAME, (0, 0), (1, 1)),
        (NOURISH_SAME, (3, 3), (3, 3)),
        (NOURISH_DIVERSE, (3, 1), (1, 2)),
        (BAIT_SAME, (2, 2), (3, 1)),
        (BAIT_DIVERSE, (1, 0), (0, 0)),
    ],
)
def test_cards_sate_and_load(action: int, before: tuple[int, int], after: tuple[int, int]) -> None:
    assert MODEL.pulse[state(10, *before), action] == after[0] * 4 + after[1]


def test_levels_stop_at_their_ends() -> None:
    zero, one = np.asarray(0), np.asarray(1)
    assert level_after(np.asarray(20), one, one, zero) == 20
    assert level_after(np.asarray(0), -one, one, one) == 0
    assert level_after(np.asarray(20), one, one, one) == 20
    assert level_after(np.asarray(5), -one, one, one) == 3


def test_a_night_leads_towards_the_middle() -> None:
    assert MODEL.inward[[0, 9, 10, 11, 20]].tolist() == [1, 10, 10, 10, 19]


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"rise": 1.2}, r"'move' in \[0, 1\] in every state, got \[.*, 1.2\]"),
        ({"bored": -0.1}, r"'bored' in \[0, 1\]"),
        ({"return_slope": 0.7}, r"'comeback' in \[0, 1\] in every state, got \[0.42, 1.12\]"),
        ({"return_floor": 0.0}, "return_floor above 0"),
        ({"churn": 2.0}, r"'churn' in \[0, 1\]"),
        ({"relax": 1.5}, r"relax in \[0, 1\], got 1.5"),
        ({"day_discount": 1.01}, r"day_discount in \(0, 1\], got 1.01"),
    ],
)
def test_what_is_no_probability_is_refused(constants: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiniModel.of(MiniConstants(**constants))
