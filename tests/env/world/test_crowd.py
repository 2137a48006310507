import msgspec
import numpy as np
import pytest
from small_worlds import PRESET

from env.arrays.draws import life_keys
from env.reward import Reward
from env.vocabulary import Ints
from env.world import generated
from env.world.creators import LiveSupply
from env.world.crowd import UserBatch
from env.world.moods import StateDynamics, churn_chance, exit_chance, return_chance
from env.world.population import DrawnUsers, FittedUsers
from env.world.presets import Preset
from env.world.responses import generated as generated_responses
from env.world.supply import Stock, stock_of
from env.world.user import SimulatedUserState, expected_reward
from env.world.world import make_world

STOCK = LiveSupply(PRESET, 0).stock


def gathered(n: int, seed: int = 0, preset: Preset = PRESET) -> UserBatch:
    crowd = UserBatch(
        DrawnUsers(preset), preset.rates, preset.moods, preset.priors, preset.population, n
    )
    crowd.begin(np.arange(n), keys_of(n, seed))
    return crowd


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    return life_keys(seed + np.arange(n), np.zeros(n, dtype=np.int64))


def rows_of(n: int, t: int, stock: Stock = STOCK) -> Ints:
    return np.random.default_rng(t).integers(0, stock.n, n)


STATE = ("satiation", "load", "satisfaction", "watched_s", "position", "cards", "day", "hour")


@pytest.mark.parametrize("n", [2, 64, 1_001])
def test_everybody_lives_alone_as_in_a_crowd_to_the_last_bit(n: int) -> None:
    crowd, index = gathered(n), [0, n // 2, n - 1]
    alone = [gathered(1, seed) for seed in index]
    for t in range(60):
        rows = rows_of(n, t)
        swiped = crowd.swipe(STOCK, rows)
        left = np.flatnonzero(swiped.leaves)
        gaps = np.zeros(n)
        gaps[left] = crowd.part(left).gap_days
        for k, one in zip(index, alone, strict=True):
            mine = one.swipe(STOCK, rows[k : k + 1])
            for column, theirs in zip(mine.answer, swiped.answer, strict=True):
                assert np.asarray(column)[0] == np.asarray(theirs)[k]
            assert mine.leaves[0] == swiped.leaves[k]
            if mine.leaves[0]:
                assert one.part(np.array([0])).gap_days[0] == gaps[k]
            for name in STATE:
                assert np.array_equal(getattr(one, name)[0], getattr(crowd, name)[k]), name
            assert np.array_equal(one.taste[:, 0], crowd.taste[:, k])


def test_a_crowd_earns_what_the_closed_form_of_its_users_says() -> None:
    items = generated.catalogue(seed=1, n=60, now_ms=1_700_000_000_000)
    users = generated.users(seed=1, n=1, now_ms=1_700_000_000_000)
    world = make_world(generated_responses(), items, seed=1)
    n, reward, stock = 60_000, Reward(), stock_of(world)
    crowd = UserBatch(
        FittedUsers(world, users),
        world.model.rates,
        world.moods,
        world.model.priors,
        world.population,
        n,
    )
    crowd.begin(np.arange(n), keys_of(n))
    crowd.satiation[:] = 1.3
    crowd.load[:] = 0.8
    user = world.user(*users[0])
    state = SimulatedUserState(satiation=np.full(32, 1.3), drift=np.zeros(32), load=0.8)
    for row in (0, 31):
        swiped = crowd.swipe(stock, np.full(n, row))
        answer, (valid_play, long_view) = swiped.answer, swiped.played
        rewards = np.asarray(
            reward.valid_play * valid_play
            + reward.long_view * long_view
            + reward.like * answer.like
            + reward.comment * answer.comment
            + reward.share * answer.share
            + reward.follow * answer.follow
            + reward.not_interested * answer.not_interested
        )
        exact = expected_reward(world, user, state, np.array([row]), reward)[0]
        assert abs(rewards.mean() - exact) <= 4.5 * rewards.std() / n**0.5
        crowd.satiation[:] = 1.3
        crowd.load[:] = 0.8


def test_users_leave_and_churn_as_often_as_their_moods_say() -> None:
    n = 60_000
    moods = StateDynamics(churn=0.5)
    crowd = gathered(n, preset=msgspec.structs.replace(PRESET, moods=moods))
    swiped = crowd.swipe(STOCK, rows_of(n, 0))
    had = crowd.satiation[np.arange(n), swiped.topic]
    chance = np.asarray(
        exit_chance(
            moods,
            had,
            crowd.load,
            crowd.satisfaction,
            swiped.item[1],
            swiped.answer.engaged,
            crowd.position,
        )
    )
    se = (chance * (1.0 - chance)).sum() ** 0.5
    assert abs(swiped.leaves.sum() - chance.sum()) <= 4.5 * se
    satisfaction = crowd.satisfaction.copy()
    returns = np.asarray(
        return_chance(moods, crowd.users.return_class, satisfaction, crowd.watched_s)
    )
    parting = crowd.part(np.arange(n))
    churns = np.asarray(churn_chance(moods, satisfaction))
    se = (churns * (1.0 - churns)).sum() ** 0.5
    assert abs(parting.has_churned.sum() - churns.sum()) <= 4.5 * se
    assert np.array_equal(parting.gap_days == 0.0, parting.has_churned)
    returns = returns[~parting.has_churned]
    next_day = parting.gap_days == 1.0
    se = (returns * (1.0 - returns)).sum() ** 0.5
    assert abs(next_day.sum() - returns.sum()) <= 4.5 * se


def test_those_who_see_no_card_stay_as_they_are() -> None:
    n = 50
    crowd = gathered(n)
    crowd.swipe(STOCK, rows_of(n, 0))
    before = {name: getattr(crowd, name).copy() for name in STATE}
    active = np.arange(n) % 2 == 0
    crowd.swipe(STOCK, rows_of(n, 1), active)
    for name, column in before.items():
        assert np.array_equal(getattr(crowd, name)[~active], column[~active]), name
    assert (crowd.cards[active] == before["cards"][active] + 1).all()
    assert (crowd.satiation[active] != before["satiation"][active]).any()


def test_who_never_returns_stays_as_the_last_card_left_them() -> None:
    n = 200
    crowd = gathered(n, preset=msgspec.structs.replace(PRESET, moods=StateDynamics(churn=0.5)))
    for t in range(3):
        crowd.swipe(STOCK, rows_of(n, t))
    before = {name: getattr(crowd, name).copy() for name in (*STATE, "sessions", "taste")}
    gone = crowd.part(np.arange(n)).has_churned
    assert 0 < gone.sum() < n
    for name, column in before.items():
        now = getattr(crowd, name)
        assert np.array_equal(
            now[..., gone] if name == "taste" else now[gone],
            column[..., gone] if name == "taste" else column[gone],
        ), name
    assert (crowd.sessions[~gone] == 1.0).all()


def test_a_gap_rests_the_mind_passes_the_days_and_moves_interests() -> None:
    n = 300
    crowd = gathered(n)
    for t in range(5):
        crowd.swipe(STOCK, rows_of(n, t))
    satiation = crowd.satiation.copy()
    parting = crowd.part(np.arange(n))
    assert not parting.has_churned.any()
    assert np.array_equal(crowd.day, parting.gap_days)
    assert (crowd.satiation.sum(axis=1) < satiation.sum(axis=1)).all()
    assert not crowd.load.any()
    assert not crowd.position.any()
    assert not crowd.watched_s.any()
    assert (crowd.sessions == 1.0).all()
    assert np.array_equal(crowd.taste, crowd.users.taste + crowd.drift)
    assert (np.abs(crowd.drift) > 0.0).all()


def test_a_new_life_in_a_place_has_nothing_of_the_one_before() -> None:
    crowd, fresh = gathered(4), gathered(4, seed=100)
    for t in range(20):
        crowd.swipe(STOCK, rows_of(4, t))
    crowd.part(np.arange(4))
    crowd.begin(np.arange(4), keys_of(4, 100))
    for name in (*STATE, "sessions", "drift", "taste", "keys"):
        assert np.array_equal(getattr(crowd, name), getattr(fresh, name)), name
