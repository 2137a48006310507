from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from env.arrays.draws import BIRTH, life_keys, normals, uniforms
from env.reward import Reward
from env.vocabulary import Floats, Ints, ItemId, Keys, Profile, UserId
from env.world import generated
from env.world.answers import N_UNIFORMS
from env.world.crowd import (
    ANSWER_LANE,
    MOOD_LANE,
    N_ANSWER_UNIFORMS,
    PARTING_LANE,
    WANDER_LANE,
    UserBatch,
)
from env.world.moods import StateDynamics, return_chance
from env.world.population import FittedUsers
from env.world.presets import Cohort, Population
from env.world.responses import generated as generated_responses
from env.world.supply import stock_of
from env.world.user import SimulatedUserState, expected_reward, newborn, simulated_users
from env.world.world import World, make_world

Draw = Callable[[Keys, Ints, int, int], Floats]
NOW_MS = 1_700_000_000_000
ITEMS = generated.catalogue(seed=1, n=400, now_ms=NOW_MS)
USERS = generated.users(seed=1, n=300, now_ms=NOW_MS)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(generated_responses(), ITEMS, seed=1)


@pytest.mark.slow
def test_the_expected_reward_of_a_card_is_the_mean_over_answers_to_it(world: World) -> None:
    user = simulated_users(world, USERS[:1])[0]
    satiation = np.linspace(0.0, 2.0, 32)
    state = replace(newborn(), satiation=satiation, load=0.7, satisfaction=0.4)
    reward, rng = Reward(), np.random.default_rng(0)
    for k in (0, 17, 250):
        rewards = np.empty(8_000)
        for draw in range(len(rewards)):
            user.state = state
            feedback = user.answer(ITEMS[k].item_id, rng)
            rewards[draw] = reward.of(feedback, ITEMS[k].duration_s or 0.0)
        exact = expected_reward(world, user.user, state, np.array([k]), reward)[0]
        assert abs(rewards.mean() - exact) <= 4.0 * rewards.std() / len(rewards) ** 0.5


def test_expected_rewards_are_the_same_for_one_candidate_and_for_a_page(world: World) -> None:
    user = simulated_users(world, USERS[3:4])[0]
    index = np.arange(100)
    together = user.expected_reward(index, Reward())
    alone = [user.expected_reward(index[k : k + 1], Reward())[0] for k in index]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_the_state_before_a_card_can_be_kept_and_asked_later(world: World) -> None:
    user = simulated_users(world, USERS[:1])[0]
    rng, reward = np.random.default_rng(1), Reward()
    user.answer(ITEMS[0].item_id, rng)
    kept = user.state
    then = user.expected_reward(np.arange(50), reward)
    for item in ITEMS[:20]:
        user.answer(item.item_id, rng)
    assert user.state.position == 21
    assert kept.position == 1
    again = expected_reward(world, user.user, kept, np.arange(50), reward)
    assert np.array_equal(then, again)
    assert not np.array_equal(then, user.expected_reward(np.arange(50), reward))


def test_the_same_seed_lives_the_same_life(world: World) -> None:
    def live() -> list[float]:
        user, rng = simulated_users(world, USERS[:1])[0], np.random.default_rng(5)
        return [user.answer(item.item_id, rng).dwell_s for item in ITEMS[:50]]

    assert live() == live()


def test_a_user_and_an_item_do_not_depend_on_their_company(world: World) -> None:
    other = make_world(generated_responses(), ITEMS[100:][::-1], seed=1)
    user_id, profile = USERS[7]
    mine, theirs = world.user(user_id, profile), other.user(user_id, profile)
    assert mine.lean == theirs.lean
    assert np.array_equal(mine.taste, theirs.taste)
    item_id = ITEMS[150].item_id
    here = world.columns[:, world.index_of(item_id)]
    there = other.columns[:, other.index_of(item_id)]
    np.testing.assert_array_equal(np.delete(here, 2), np.delete(there, 2))  # codes of languages


def test_another_seed_is_another_world(world: World) -> None:
    other = make_world(generated_responses(), ITEMS, seed=2)
    assert not np.array_equal(world.columns[0], other.columns[0])


def test_users_differ_as_much_as_the_priors_say(world: World) -> None:
    users = simulated_users(world, USERS)
    leans = np.array([user.user.lean for user in users])
    tastes = np.array([user.user.taste for user in users]).ravel()
    for values, sd in (
        (leans, world.model.priors.lean_sd),
        (tastes, world.model.priors.taste_sd),
    ):
        assert abs(values.std() - sd) <= 4.0 * sd / (2.0 * len(values)) ** 0.5


def test_who_knows_a_user_earns_far_more_than_who_shows_anything(world: World) -> None:
    rewards = np.array(
        [
            user.expected_reward(np.arange(100), Reward())
            for user in simulated_users(world, USERS[:50])
        ]
    )
    best = np.sort(rewards, axis=1)[:, -10:].mean()
    popular = rewards[:, np.argsort(rewards.mean(axis=0))[-10:]].mean()
    assert popular > 1.1 * rewards.mean()
    assert best > 1.1 * popular


def test_the_same_topic_over_and_over_wears_off(world: World) -> None:
    user = simulated_users(world, USERS[:1])[0]
    rng, reward = np.random.default_rng(2), Reward()
    fresh = user.expected_reward(np.array([0]), reward)[0]
    for _ in range(20):
        user.answer(ITEMS[0].item_id, rng)
    assert user.expected_reward(np.array([0]), reward)[0] < fresh
    assert user.state.exit_chance > 0.1
    user.rest(days=3.0)
    assert user.state.position == 0
    assert user.state.load == 0.0
    assert not user.leaves(rng)


def test_a_user_is_back_as_often_and_as_soon_as_their_moods_say(world: World) -> None:
    churning = replace(world, moods=StateDynamics(churn=0.5))
    user = simulated_users(churning, USERS[:1])[0]
    state = replace(newborn(), satisfaction=0.3, watched_s=600.0, hour=20.0)
    rng, n, gaps = np.random.default_rng(6), 4_000, []
    for _ in range(n):
        user.state = state
        gap = user.leave(rng)
        if gap is not None:
            gaps.append(gap)
    churns = 0.5 * 0.7**2
    assert abs(1.0 - len(gaps) / n - churns) <= 4.5 * (churns * (1.0 - churns) / n) ** 0.5
    chance = return_chance(churning.moods, user.user.return_class, 0.3, 600.0)
    next_day = float(np.asarray(chance))
    se = (next_day * (1.0 - next_day) / len(gaps)) ** 0.5
    assert abs(np.mean(np.array(gaps) <= 1) - next_day) <= 4.5 * se


def test_interests_drift_while_a_user_is_away_and_only_then(world: World) -> None:
    user = simulated_users(world, USERS[:1])[0]
    rng = np.random.default_rng(7)
    user.answer(ITEMS[0].item_id, rng)
    assert not user.state.drift.any()
    before = user.expected_reward(np.arange(50), Reward())
    user.rest(days=300.0)
    assert not user.state.drift.any()
    user.rest(days=300.0, rng=rng)
    drifted = user.state.drift
    expected = world.model.priors.taste_sd * 0.05 / (1.0 - 0.98**2) ** 0.5
    assert abs(drifted.std() / expected - 1.0) < 4.5 / (2.0 * len(drifted)) ** 0.5
    user.state = replace(user.state, drift=np.zeros(len(drifted)))
    rested = user.expected_reward(np.arange(50), Reward())
    user.state = replace(user.state, drift=drifted)
    assert not np.array_equal(user.expected_reward(np.arange(50), Reward()), rested)
    assert not np.array_equal(before, rested)


def test_a_user_comes_at_the_hours_of_their_cohort(world: World) -> None:
    night = {"full_active": Cohort(share=1.0, daily_share=0.5, peak_hours=(3.0, 3.0))}
    owls = make_world(generated_responses(), ITEMS, seed=1, population=Population(night))
    user_id, profile = next(user for user in USERS if user[1].cohort == "full_active")
    user, rng = simulated_users(owls, [(user_id, profile)])[0], np.random.default_rng(8)
    hours: list[float] = []
    while len(hours) < 300:
        if user.leave(rng) is not None:
            hours.append(user.state.hour)
    after_midnight = 0.88493  # within 1.2 standard deviations before, and all after
    se = (after_midnight * (1.0 - after_midnight) / len(hours)) ** 0.5
    assert abs(np.mean(np.array(hours) < 12.0) - after_midnight) < 4.5 * se
    assert user.state.watched_s == 0.0


class Drawn(np.random.Generator):
    """Deals a Viewer the numbers that a life of a Crowd draws, card by card."""

    def __init__(self, key: Keys) -> None:
        super().__init__(np.random.PCG64(0))
        self._key = key
        self._dealt: deque[float] = deque()

    def deal(
        self, drawn: Draw, card: int, first: int, n: int, taken: slice = slice(None)
    ) -> "Drawn":
        """Put on the table what is taken of the n numbers that are drawn from these lanes."""
        self._dealt.extend(drawn(self._key, np.array([card]), first, n)[taken, 0].tolist())
        return self

    def random(self, size: int | None = None) -> Any:  # type: ignore[override]
        return self._take(size)

    def standard_normal(self, size: int | None = None) -> Any:  # type: ignore[override]
        return self._take(size)

    def _take(self, size: int | None) -> Any:
        if size is None:
            return self._dealt.popleft()
        return np.array([self._dealt.popleft() for _ in range(size)])

    @property
    def n_left(self) -> int:
        return len(self._dealt)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_user_and_a_user_of_the_crowd_live_the_same_life_to_the_last_bit(seed: int) -> None:
    population = Population(
        {"full_active": Cohort(share=1.0, daily_share=0.5, peak_hours=(8.0, 22.0))}, evening=0.3
    )
    model, moods = generated_responses(), StateDynamics(churn=0.05)
    world = make_world(model, ITEMS[:60], 1, moods, population)
    n, place = 5, 3
    crowd = UserBatch(
        FittedUsers(world, USERS[seed : seed + 1]),
        model.rates,
        moods,
        model.priors,
        population,
        n,
    )
    keys = life_keys(seed + np.arange(n), np.zeros(n, dtype=np.int64))
    crowd.begin(np.arange(n), keys)
    user, stock = simulated_users(world, USERS[seed : seed + 1])[0], stock_of(world)
    rng = Drawn(keys[place : place + 1])
    rng.deal(uniforms, BIRTH, PARTING_LANE, 1).deal(normals, BIRTH, PARTING_LANE + 1, 1)
    user.begin(rng)
    n_visits = 0
    for card in range(1, 400):
        rows = np.random.default_rng([seed, card]).integers(0, stock.n, n)
        swiped = crowd.swipe(stock, rows)
        rng.deal(uniforms, card, ANSWER_LANE, N_ANSWER_UNIFORMS, slice(N_UNIFORMS))
        rng.deal(normals, card, MOOD_LANE, 2)
        feedback = user.answer(world.item_ids[rows[place]], rng)
        assert feedback.dwell_s == np.asarray(swiped.answer.watch_s)[place]
        for event in ("like", "comment", "share", "follow", "not_interested"):
            assert getattr(feedback, event) == np.asarray(getattr(swiped.answer, event))[place]
        assert_same_state(user.state, crowd, place)
        leaving = slice(N_UNIFORMS, N_UNIFORMS + 1)
        rng.deal(uniforms, card, ANSWER_LANE, N_ANSWER_UNIFORMS, leaving)
        leaves = user.leaves(rng)
        assert leaves == swiped.leaves[place]
        left = np.flatnonzero(swiped.leaves)
        parting = crowd.part(left)
        if leaves:
            n_visits += 1
            after = card + 1  # by whose number all is drawn that comes before it
            rng.deal(uniforms, after, PARTING_LANE, 3).deal(normals, after, PARTING_LANE + 2, 1)
            rng.deal(normals, after, WANDER_LANE, 32)
            gap = user.leave(rng)
            k = left.tolist().index(place)
            assert (gap is None) == parting.has_churned[k]
            if gap is None:
                break
            assert gap == parting.gap_days[k]
            assert_same_state(user.state, crowd, place)
        assert rng.n_left == 0
    assert n_visits > 5


def assert_same_state(state: SimulatedUserState, crowd: UserBatch, place: int) -> None:
    assert np.array_equal(state.satiation, crowd.satiation[place])
    assert np.array_equal(state.drift, crowd.drift[:, place])
    for name in ("load", "satisfaction", "position", "watched_s", "hour"):
        assert getattr(state, name) == getattr(crowd, name)[place], name


def test_users_leave_as_often_as_their_state_says(world: World) -> None:
    user = simulated_users(world, USERS[:1])[0]
    user.state = replace(newborn(), exit_chance=0.2)
    rng, n = np.random.default_rng(3), 5_000
    left = sum(user.leaves(rng) for _ in range(n)) / n
    assert abs(left - 0.2) <= 4.0 * (0.2 * 0.8 / n) ** 0.5


def test_a_shared_language_helps(world: World) -> None:
    k = next(k for k, item in enumerate(ITEMS) if item.language == "th")
    spoken, foreign = (
        expected_reward(
            world,
            world.user(UserId("somebody"), Profile(language=language)),
            newborn(),
            np.array([k]),
            Reward(),
        )[0]
        for language in ("th", "xx")
    )
    assert spoken > foreign


def test_a_device_leans_on_all_that_a_user_sees(world: World) -> None:
    desks = replace(world, population=Population({}, device_leans={"desktop": -0.2}))
    for device, lean in (("desktop", -0.2), ("phone", 0.0)):
        usual, leaning = (
            w.user(UserId("somebody"), Profile(device=device)).lean for w in (world, desks)
        )
        assert leaning == pytest.approx(usual + lean, abs=1e-12)


def test_an_item_of_another_world_is_refused(world: World) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        simulated_users(world, USERS[:1])[0].answer(ItemId("nowhere"), np.random.default_rng(0))
