import msgspec
import numpy as np
import pytest

from env.twin.checks import (
    CONTROL_WITHIN,
    ROLLED_OUT,
    RolloutComparison,
    change_constants,
    check_separation,
    compare_with_rollouts,
    kendall_tau,
    one_equals_many,
    repeats,
    variants,
)
from env.twin.model import MiniConstants, MiniModel
from env.twin.policies import reference_policies
from env.twin.solve import DynamicProgramme


def test_the_myopic_lose_and_only_where_something_is_slow() -> None:
    separation = check_separation()
    assert separation.passed
    assert separation.control >= 1.0 - CONTROL_WITHIN


def test_a_world_without_a_slow_state_does_not_separate() -> None:
    fast = msgspec.structs.replace(
        MiniConstants(), rise=0.0, fall=0.0, bored=0.0, watch_satiation=0.0, exit_satiation=0.0
    )
    assert not check_separation(fast).passed


@pytest.mark.slow
def test_rollouts_have_the_programmes_values() -> None:
    rows = compare_with_rollouts(n_users=300, names=("optimal for days", "myopic"))
    assert len(rows) == 4
    assert all(row.passed for row in rows), [(row.policy, row.objective, row.z) for row in rows]
    assert all(row.standard_error < 0.03 * row.exact for row in rows)


def test_the_policies_that_are_rolled_out_differ() -> None:
    policies = reference_policies(DynamicProgramme.of(MiniModel.of(MiniConstants())))
    assert len({policies[name].tobytes() for name in ROLLED_OUT}) == len(ROLLED_OUT) == 5


def test_a_rollout_four_standard_errors_off_fails() -> None:
    assert not RolloutComparison("p", "watch", mean=104.0, standard_error=1.0, exact=100.0).passed
    assert RolloutComparison("p", "watch", mean=97.5, standard_error=1.0, exact=100.0).passed


def test_same_seed_same_bits() -> None:
    assert repeats()


def test_each_of_many_lives_as_alone() -> None:
    assert one_equals_many()


def test_the_order_of_policies_survives_the_constant_that_moves_it_most() -> None:
    less, more = change_constants(("exit_load",))
    assert less.passed
    assert more.passed
    assert 0.8 <= more.least < 0.85


def test_what_changes_the_meaning_of_a_constant_is_shown_and_not_judged() -> None:
    rows = change_constants(("exit",))
    judged = [row for row in rows if row.judged]
    assert {row.unit for row in judged} == {"odds"}
    assert all(row.least >= 0.8 for row in judged)
    assert min(row.least for row in rows) < 0.7
    assert all(row.passed for row in rows)


@pytest.mark.parametrize("name", MiniConstants.__struct_fields__)
def test_each_number_is_changed_both_ways_and_alone(name: str) -> None:
    frozen = MiniConstants()
    value = getattr(frozen, name)
    n_numbers = len(value) if isinstance(value, tuple) else 1
    if name == "multipliers":
        n_numbers -= 1  # the first one's scale is `seconds`
    judged = [variant for variant in variants(frozen, name) if variant.judged]
    assert len(judged) == 2 * n_numbers
    assert len({variant.constants for variant in judged} - {frozen}) == 2 * n_numbers
    for variant in judged:
        for other in set(MiniConstants.__struct_fields__) - {name}:
            assert getattr(variant.constants, other) == getattr(frozen, other)


def test_units_of_change() -> None:
    frozen = MiniConstants()
    more = {
        (v.constant, v.unit): v.constants for v in variants(frozen, "multipliers") if v.factor > 1
    }
    np.testing.assert_allclose(more["multipliers[2]", "premium"].multipliers[2], 1.225)
    np.testing.assert_allclose(more["multipliers[1]", "premium"].multipliers[1], 0.90)
    np.testing.assert_allclose(more["multipliers[0]", "value"].multipliers[0], 1.25)
    less = {v.unit: v.constants for v in variants(frozen, "exit") if v.factor < 1}
    np.testing.assert_allclose(np.exp(less["odds"].exit - frozen.exit), 0.75)
    np.testing.assert_allclose(less["value"].exit, -2.325)
    discounts = [v.constants.day_discount for v in variants(frozen, "day_discount")]
    np.testing.assert_allclose(discounts, [1 - 0.0225, 1 - 0.0375])


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], -1.0),
        ([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], 4 / 6),
        ([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], 5 / np.sqrt(30)),
        ([1.0, 1.0 + 1e-12, 2.0], [1.0, 1.0, 2.0], 1.0),
    ],
)
def test_kendalls_tau(x: list[float], y: list[float], tau: float) -> None:
    assert abs(kendall_tau(np.array(x), np.array(y)) - tau) < 1e-12
