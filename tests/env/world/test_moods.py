import numpy as np
import pytest

from env.arrays.reals import Reals
from env.world.moods import (
    N_TOPICS,
    StateDynamics,
    churn_chance,
    exit_chance,
    rest,
    return_chance,
    satiate,
    satisfy,
    tire,
)

MOODS = StateDynamics()


def test_users_in_a_row_are_satiated_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    satiation, topic = rng.random((50, N_TOPICS)), rng.integers(0, N_TOPICS, 50)
    together = satiate(MOODS, satiation, topic)
    for k in range(50):
        assert np.array_equal(together[k], satiate(MOODS, satiation[k], int(topic[k])))


def test_satiation_leaves_the_array_it_was_given_as_it_was() -> None:
    before = np.ones(N_TOPICS)
    satiate(MOODS, before, 3)
    satiate(MOODS, before[None, :], np.array([3]))
    assert (before == 1.0).all()


def test_a_diet_of_one_topic_ends_at_three_and_a_half() -> None:
    satiation = np.zeros(N_TOPICS)
    for _ in range(300):
        satiation = satiate(MOODS, satiation, 5)
    np.testing.assert_allclose(satiation[5], 3.5)
    assert satiation.sum() == satiation[5]


def test_bait_rests_the_mind_and_costs_satisfaction() -> None:
    assert float(np.asarray(tire(MOODS, 1.0, 1.0))) < float(np.asarray(tire(MOODS, 1.0, 0.0)))

    def after(bait: float) -> float:
        return float(np.asarray(satisfy(MOODS, 0.5, 1.0, bait, 0.5, 0.0, 0.0)))

    assert after(1.0) < 0.5 < after(0.0)


def test_nourishing_satisfies_less_the_more_the_mind_is_loaded() -> None:
    gains = [float(np.asarray(satisfy(MOODS, 0.5, 1.0, 0.0, m, 0.0, 0.0))) - 0.5 for m in (0, 1, 2)]
    assert gains[0] > gains[1] > gains[2] >= 0.0
    assert gains[2] < 0.1 * gains[0]


@pytest.mark.parametrize(("satisfaction", "normal"), [(0.0, -9.0), (1.0, 9.0)])
def test_satisfaction_stays_between_zero_and_one(satisfaction: float, normal: float) -> None:
    alone = satisfy(MOODS, satisfaction, 0.0, 0.5, 0.0, 0.0, normal)
    row = satisfy(MOODS, np.full(3, satisfaction), 0.0, 0.5, 0.0, 0.0, np.full(3, normal))
    assert alone == satisfaction
    assert (np.asarray(row) == satisfaction).all()


def test_users_leave_sooner_when_satiated_loaded_bored_or_unhappy() -> None:
    def chance(
        satiation: float = 0.0,
        load: float = 0.0,
        satisfaction: float = 0.5,
        engaged: float = 1.0,
        position: float = 0.0,
    ) -> float:
        return float(
            np.asarray(exit_chance(MOODS, satiation, load, satisfaction, 0.2, engaged, position))
        )

    rested = chance()
    assert 0.03 < rested < 0.06
    for sooner in (
        chance(satiation=1.0),
        chance(load=1.0),
        chance(satisfaction=0.2),
        chance(engaged=0.0),
        chance(position=200.0),
    ):
        assert sooner > rested


def test_the_mean_gap_is_two_days_as_in_kuairand() -> None:
    chances = [return_chance(MOODS, p, 0.5, 0.0) for p in MOODS.return_classes]
    gaps = [1.0 / float(np.asarray(chance)) for chance in chances]
    mean = MOODS.daily_share * gaps[0] + (1.0 - MOODS.daily_share) * gaps[1]
    assert abs(mean - 2.0) < 0.02


def test_the_satisfied_return_sooner_and_churn_less() -> None:
    satisfaction: Reals = np.array([0.2, 0.5, 0.9])
    assert (np.diff(np.asarray(return_chance(MOODS, 0.5, satisfaction, 300.0))) > 0.0).all()
    assert (np.diff(np.asarray(churn_chance(MOODS, satisfaction))) < 0.0).all()


def test_a_day_away_halves_satiation_and_heals_a_third_of_the_way() -> None:
    satiation, satisfaction = rest(MOODS, np.full(N_TOPICS, 2.0), 0.2, 1.0)
    np.testing.assert_allclose(satiation, 1.0)
    np.testing.assert_allclose(satisfaction, 0.29)
    row, _ = rest(MOODS, np.full((2, N_TOPICS), 2.0), np.full(2, 0.2), np.array([1.0, 2.0]))
    np.testing.assert_allclose(row[:, 0], [1.0, 0.5])
