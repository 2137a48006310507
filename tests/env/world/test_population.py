from dataclasses import fields

import msgspec
import numpy as np
import pytest
from small_worlds import PRESET

from env.arrays.draws import life_keys
from env.world import generated
from env.world.generated import MARKETS
from env.world.population import DrawnUsers, FittedUsers, UserTraits
from env.world.presets import Cohort, Population
from env.world.responses import generated as generated_responses
from env.world.world import make_world

N = 20_000
KEYS = life_keys(np.arange(N), np.zeros(N, dtype=np.int64))


def share_is(values: np.ndarray, expected: float) -> bool:
    se = float((expected * (1.0 - expected) / N) ** 0.5)
    return abs(float(values.mean()) - expected) <= 4.5 * se


def test_a_user_does_not_depend_on_their_company() -> None:
    cast = DrawnUsers(PRESET)
    together, alone = cast.draw(KEYS), cast.draw(KEYS[123:124])
    for field in fields(UserTraits):
        assert np.array_equal(
            getattr(together, field.name)[..., 123:124], getattr(alone, field.name)
        )


def test_cohorts_markets_and_devices_have_their_shares() -> None:
    batch = DrawnUsers(PRESET).draw(KEYS)
    for k, cohort in enumerate(PRESET.population.cohorts.values()):
        assert share_is(batch.cohort == k, cohort.share)
    total = sum(market.weight for market in MARKETS)
    for k, market in enumerate(MARKETS):
        assert share_is(batch.market == k, market.weight / total)
    for k, share in enumerate(PRESET.population.devices.values()):
        assert share_is(batch.device == k, share)
    assert share_is(batch.tenure_days == 0.0, PRESET.population.newcomers)


def test_users_speak_a_language_of_their_market() -> None:
    cast = DrawnUsers(PRESET)
    batch = cast.draw(KEYS)
    for k, market in enumerate(MARKETS):
        spoken = {cast.languages[code] for code in np.unique(batch.language[batch.market == k])}
        assert spoken == set(market.languages)


def test_a_cohort_that_comes_daily_is_so_in_its_own_share() -> None:
    batch = DrawnUsers(PRESET).draw(KEYS)
    daily = batch.return_class == PRESET.moods.return_classes[0]
    for k, cohort in enumerate(PRESET.population.cohorts.values()):
        mine = daily[batch.cohort == k]
        se = (cohort.daily_share * (1.0 - cohort.daily_share) / len(mine)) ** 0.5
        assert abs(mine.mean() - cohort.daily_share) <= 4.5 * se
        assert np.array_equal(batch.peaks[:, batch.cohort == k].T[0], cohort.peak_hours)


def test_tastes_and_leans_have_the_spread_of_the_priors() -> None:
    batch, priors = DrawnUsers(PRESET).draw(KEYS), PRESET.priors
    assert abs(batch.taste.std() / priors.taste_sd - 1.0) <= 4.5 / (2.0 * batch.taste.size) ** 0.5
    mine = batch.lean[batch.cohort == 0]
    cohort = PRESET.population.cohorts["high_active"]
    assert abs(mine.mean() - cohort.lean) <= 4.5 * priors.lean_sd / len(mine) ** 0.5


def test_users_do_not_hang_on_the_order_in_which_a_preset_is_written() -> None:
    population = PRESET.population
    turned = msgspec.structs.replace(
        population,
        cohorts=dict(reversed(population.cohorts.items())),
        devices=dict(reversed(population.devices.items())),
    )
    one = DrawnUsers(PRESET)
    other = DrawnUsers(msgspec.structs.replace(PRESET, population=turned))
    assert (one.cohorts, one.devices) == (other.cohorts, other.devices)
    assert np.array_equal(one.draw(KEYS).cohort, other.draw(KEYS).cohort)
    assert np.array_equal(one.draw(KEYS).device, other.draw(KEYS).device)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.7, 0.4)])
def test_shares_that_do_not_sum_to_one_are_refused(shares: tuple[float, float]) -> None:
    cohorts = {str(share): Cohort(share=share, daily_share=0.5) for share in shares}
    preset = msgspec.structs.replace(PRESET, population=Population(cohorts))
    with pytest.raises(ValueError, match="shares of cohorts that sum to 1"):
        DrawnUsers(preset)


def test_the_users_of_a_world_live_again() -> None:
    items = generated.catalogue(seed=1, n=50, now_ms=1_700_000_000_000)
    accounts = generated.users(seed=1, n=30, now_ms=1_700_000_000_000)
    world = make_world(generated_responses(), items, seed=1)
    users = [world.user(user_id, profile) for user_id, profile in accounts]
    cast = FittedUsers(world, accounts)
    batch = cast.draw(KEYS[:2_000])
    assert set(batch.lean.tolist()) == {user.lean for user in users}
    by_lean = {user.lean: user for user in users}
    home = {one.lean: profile.country for one, (_, profile) in zip(users, accounts, strict=True)}
    assert len(cast.countries) > 1
    for k in range(20):
        user = by_lean[float(batch.lean[k])]
        assert np.array_equal(batch.taste[:, k], user.taste)
        assert batch.language[k] == user.language
        assert cast.countries[batch.country[k]] == home[user.lean]
        assert batch.return_class[k] == user.return_class


def test_a_world_without_users_is_refused() -> None:
    items = generated.catalogue(seed=1, n=5, now_ms=1_700_000_000_000)
    with pytest.raises(ValueError, match="at least one user"):
        FittedUsers(make_world(generated_responses(), items, seed=1), [])
