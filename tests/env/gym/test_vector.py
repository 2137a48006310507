from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import assume, given
from hypothesis import strategies as st
from small_worlds import PRESET, as_parts, is_same, make

from env.gym.actions import without_repeats
from env.gym.registration import register_envs
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.world import generated
from env.world.creators import LiveSupply
from env.world.moods import StateDynamics
from env.world.population import FittedUsers
from env.world.responses import generated as generated_responses
from env.world.supply import ITEM_FACTS, FixedSupply, RecordedSupply, RecordingSupply, stock_of
from env.world.world import make_world

MODES: list[dict[str, Any]] = [
    {},
    {"n_candidates": 7},
    {"obs": "flat"},
    {"obs": "ids"},
    {"actions": "page", "page_size": 10},
    {"actions": "weights"},
    {"masked": True},
]


def legal(env: SwipeVectorEnv, rng: np.random.Generator) -> Any:
    if env.swiping.settings.masked:
        mask = env.swiping.candidates.mask
        return np.argmax(mask * rng.random(mask.shape), axis=1)
    return env.action_space.sample()


def assert_lives_alone_as_in_a_vector(
    vector: SwipeVectorEnv, ones: dict[int, SwipeEnv], seed: int, n_steps: int
) -> int:
    """Step both; return how many episodes ended."""
    rng, over, n_ends = np.random.default_rng(1), dict.fromkeys(ones, False), 0
    together, _ = vector.reset(seed=seed)
    vector.action_space.seed(0)
    for k, one in ones.items():
        assert is_same(together, one.reset(seed=seed + k)[0], k)
    for _ in range(n_steps):
        actions = legal(vector, rng)
        together, rewards, terminated, truncated, infos = vector.step(actions)
        for k, one in ones.items():
            if over[k]:
                assert is_same(together, one.reset()[0], k)
                assert (rewards[k], terminated[k], truncated[k]) == (0.0, False, False)
                over[k] = False
                continue
            alone, reward, ended, cut, info = one.step(actions[k])
            assert is_same(together, alone, k)
            assert (reward, ended, cut) == (rewards[k], terminated[k], truncated[k])
            assert info.keys() == infos.keys()
            for name, value in info.items():
                assert np.array_equal(value, infos[name][k]), name
            over[k] = ended or cut
            n_ends += over[k]
    return n_ends


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.slow
def test_a_user_of_many_is_the_same_user_alone_to_the_last_bit(mode: dict[str, Any]) -> None:
    n = 67
    ones = {k: SwipeEnv(preset=PRESET, **mode) for k in (0, 40, n - 1)}
    assert assert_lives_alone_as_in_a_vector(make(n, **mode), ones, 5, 90) > 0


def test_the_size_of_the_vector_changes_nobody() -> None:
    small, large = make(3), make(2_048)
    small.reset(seed=9)
    large.reset(seed=9)
    actions = np.random.default_rng(0).integers(0, 20, (40, 2_048))
    for drawn in actions:
        few = small.step(drawn[:3])
        many = large.step(drawn)
        for name, array in as_parts(few[0]).items():
            assert np.array_equal(array, as_parts(many[0])[name][:3])
        assert np.array_equal(few[1], many[1][:3])


@pytest.mark.parametrize("mode", [{}, {"actions": "page"}, {"actions": "weights"}])
def test_lives_under_a_live_supply_are_the_same_alone_when_that_supply_is_replayed(
    mode: dict[str, Any],
) -> None:
    recording, n_steps = RecordingSupply(LiveSupply(PRESET, 0)), 60
    vector = make(50, supply=recording, steps_per_day=7, horizon_days=2, **mode)
    vector.action_space.seed(3)
    vector.reset(seed=2)
    actions = [vector.action_space.sample() for _ in range(n_steps)]
    watched = [vector.step(action) for action in actions]
    assert len(recording.stocks) == 1 + n_steps // 7
    n_lives = 0
    for k in (0, 23, 49):
        supply = RecordedSupply(recording.stocks)
        one = SwipeEnv(preset=PRESET, supply=supply, steps_per_day=7, horizon_days=2, **mode)
        one.reset(seed=2 + k)
        is_over = False
        for action, (together, *outcome, _) in zip(actions, watched, strict=True):
            if is_over:
                assert is_same(together, one.reset()[0], k)
                is_over = False
                continue
            alone, reward, terminated, truncated, _ = one.step(action[k])
            assert is_same(together, alone, k)
            assert (reward, terminated, truncated) == tuple(column[k] for column in outcome)
            is_over = terminated or truncated
            n_lives += is_over
    assert n_lives > 6


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    env = make(20, supply="live", steps_per_day=5)
    actions = np.random.default_rng(0).integers(0, 20, (30, 20))

    def live(seed: int) -> list[np.ndarray]:
        env.reset(seed=seed)
        return [env.step(action)[1] for action in actions]

    first, again, other = live(1), live(1), live(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_shown_feeds_back_into_a_live_supply_only() -> None:
    live, fixed = make(200, supply="live", steps_per_day=4), make(200, steps_per_day=4)
    for env in (live, fixed):
        before = None
        env.reset(seed=0)
        before = env.swiping.stock
        for _ in range(4):
            env.step(np.zeros(200, dtype=np.int64))
        after = env.swiping.stock
        if env is fixed:
            assert after is before
        else:
            stays = after.serial == before.serial
            gained = (after.counts - before.counts)[:, stays]
            assert gained[0].sum() > 0
            assert (gained[1:] <= gained[0]).all()
            assert not stays.all()


@pytest.mark.parametrize("n", [60, 400])
def test_how_exposure_is_spread_decides_who_still_uploads_at_any_size(n: int) -> None:
    uploads = msgspec.structs.replace(PRESET.uploads, give_up=0.5)
    preset = msgspec.structs.replace(PRESET, uploads=uploads)
    left = {}
    for spread in ("even", "popular"):
        env = make(n, preset=preset, supply="live", steps_per_day=12)
        assert isinstance(env.swiping.supply, LiveSupply)
        exposures = env.swiping.stock.n_dims + ITEM_FACTS.index("log_exposures")
        items = as_parts(env.reset(seed=0)[0])["item"]
        env.action_space.seed(0)
        for _ in range(12 * 25):
            popular = items[:, :, exposures].argmax(axis=1)
            actions = popular if spread == "popular" else env.action_space.sample()
            items = as_parts(env.step(actions)[0])["item"]
        left[spread] = env.swiping.supply.is_active.mean()
    assert left["even"] > 0.85
    assert left["popular"] < 0.6


def test_who_never_returns_has_no_gap_and_is_seen_as_their_last_card_left_them() -> None:
    env = make(300, preset=msgspec.structs.replace(PRESET, moods=StateDynamics(churn=0.3)))
    names = env.swiping.observer.user_features()
    day, gap = names.index("day"), names.index("log_last_gap")
    before = as_parts(env.reset(seed=0)[0])["user"]
    n_gone = 0
    for _ in range(60):
        observation, _, gone, _, info = env.step(np.zeros(300, dtype=np.int64))
        user = as_parts(observation)["user"]
        assert info["session_end"][gone].all()
        assert not info["gap_days"][gone].any()
        assert not info["discount"][gone].any()
        assert np.array_equal(user[gone][:, [day, gap]], before[gone][:, [day, gap]])
        assert (info["gap_days"][info["session_end"] & ~gone] >= 1.0).all()
        n_gone += int(gone.sum())
        before = user
    assert n_gone > 100


def test_a_place_whose_episode_ended_takes_a_step_to_begin_the_next() -> None:
    env = make(30, horizon_days=1)
    env.reset(seed=0)
    over = np.zeros(30, dtype=np.bool_)
    n_ends = 0
    for _ in range(120):
        actions = np.where(over, 10_000, 0)
        _, reward, terminated, truncated, info = env.step(actions)
        assert not reward[over].any()
        assert not info["n_cards"][over].any()
        assert not (terminated | truncated)[over].any()
        assert (info["n_cards"][~over] == 1).all()
        assert (env.swiping.crowd.cards[over] == 1).all()
        over = terminated | truncated
        assert not (terminated & truncated).any()
        n_ends += over.sum()
    assert n_ends > 30
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_a_page_is_seen_until_the_user_leaves() -> None:
    env = make(300, actions="page", page_size=4)
    env.action_space.seed(0)
    env.reset(seed=0)
    cut_short = 0
    for _ in range(25):
        cards = env.swiping.crowd.cards.copy()
        over = env.swiping.over.copy()
        _, _, _, _, info = env.step(env.action_space.sample())
        n_cards = info["n_cards"]
        assert np.array_equal(env.swiping.crowd.cards[~over], (cards + n_cards)[~over])
        assert (n_cards[~info["session_end"] & ~over] == 4).all()
        unseen = np.arange(4) >= n_cards[:, None]
        assert not info["page_watch_s"][unseen].any()
        np.testing.assert_allclose(info["watch_s"], info["page_watch_s"].sum(axis=1))
        cut_short += int((n_cards[~over] < 4).sum())
    assert cut_short > 100


def test_a_repeated_candidate_gives_way_to_the_next_that_is_not_on_the_page() -> None:
    env = make(3, actions="page", page_size=3, n_candidates=5)
    env.reset(seed=0)
    rows = env.swiping.candidates.rows.copy()
    info = env.step(np.array([[0, 1, 2], [3, 3, 4], [2, 2, 2]]))[4]
    assert info["page"].tolist() == [[0, 1, 2], [3, 0, 4], [2, 3, 4]]
    plain = make(3, actions="page", page_size=3, n_candidates=5)
    plain.reset(seed=0)
    assert np.array_equal(plain.swiping.candidates.rows, rows)
    same = plain.step(info["page"])[4]
    assert np.array_equal(info["page_watch_s"], same["page_watch_s"])


@given(
    st.integers(2, 9).flatmap(
        lambda k: st.tuples(
            st.lists(st.integers(0, k - 1), min_size=1, max_size=k),
            st.lists(st.booleans(), min_size=k, max_size=k),
        )
    )
)
def test_a_page_without_repeats_keeps_every_first_choice(
    drawn: tuple[list[int], list[bool]],
) -> None:
    cards, allowed = drawn
    assume(all(allowed[card] for card in cards) and sum(allowed) >= len(cards))
    (page,) = without_repeats(np.array([cards]), np.array([allowed])).tolist()
    assert len(set(page)) == len(page)
    assert all(allowed[card] for card in page)
    for slot, card in enumerate(cards):
        assert page[slot] == card or card in cards[:slot]


def test_what_takes_the_place_of_a_repeat_may_be_shown() -> None:
    env = make(400, actions="page", page_size=4, masked=True)
    env.reset(seed=0)
    mask = env.swiping.candidates.mask.copy()
    first = np.repeat(mask.argmax(axis=1)[:, None], 4, axis=1)
    page = env.step(first)[4]["page"]
    assert (mask == 0).any()
    assert (np.take_along_axis(mask, page, axis=1) == 1).all()


@pytest.mark.parametrize(
    ("arguments", "actions", "message"),
    [
        ({}, [0, 20], r"expected candidates 0 to 19, got \[20\] for user 1"),
        ({}, [-1, 0], r"expected candidates 0 to 19, got \[-1\] for user 0"),
        ({}, [0.5, 1.0], "expected whole numbers as actions, got float64"),
        ({}, [0], r'expected actions of shape \(2,\) in mode "next", got \(1,\)'),
        (
            {"actions": "weights"},
            [[0.0] * 8, [0.0] * 7 + [1.5]],
            r"expected weights in \[-1, 1\], got .*1.5.* for user 1",
        ),
        (
            {"actions": "weights"},
            [[0.0] * 8, [0.0] * 7 + [float("nan")]],
            r"expected weights in \[-1, 1\], got .*nan.* for user 1",
        ),
    ],
)
def test_an_illegal_action_is_refused_and_changes_nothing(
    arguments: dict[str, Any], actions: list[Any], message: str
) -> None:
    env = make(2, **arguments)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(np.array(actions))
    assert (env.swiping.crowd.cards == 1).all()


def test_a_masked_candidate_is_refused() -> None:
    env = make(2, masked=True)
    env.reset(seed=0)
    env.swiping.candidates.mask[1, 4] = 0
    with pytest.raises(ValueError, match=r"whose mask is 1, got \[4\] for user 1"):
        env.step(np.array([0, 4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "at least 1 environment, got 0"),
        ({"obs": "image"}, "expected obs of dict, flat, ids, feed, feed_flat, got 'image'"),
        ({"actions": "slate"}, "expected actions of next, page, weights, got 'slate'"),
        ({"reward": "clicks"}, "expected a reward of watch, .*, got 'clicks'"),
        ({"supply": "none"}, '"live" or "fixed", got \'none\''),
        ({"n_candidates": 1}, "expected 2 to 256 candidates, got 1"),
        ({"actions": "page", "page_size": 21}, "a page of 1 to 20 cards, got 21"),
        ({"steps_per_day": 0}, "at least 1 step a day, got 0"),
        ({"obs": "flat", "masked": True}, "no place for a mask"),
        ({"preset": "tiktok"}, "expected one of kuairand"),
        ({"render_mode": "ansi"}, "render_mode=None of many users, got 'ansi'"),
        ({"horizon_days": 0}, "above 0 for Preset.horizon_days"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwipeVectorEnv(**{"num_envs": 2, "preset": PRESET, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -3}, "2 seeds of 0 or more, got -3"),
        ({"seed": [1, 2, 3]}, r"2 seeds of 0 or more, got \[1, 2, 3\]"),
        ({"options": {"reset_mask": 1}}, r"expected no options, got \['reset_mask'\]"),
    ],
)
def test_a_reset_that_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2).reset(**arguments)


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"reset\(\) before the first step"):
        make(2).step(np.array([0, 0]))


def test_seeds_may_be_given_one_by_one() -> None:
    listed, counted = make(3), make(3)
    first, second = as_parts(listed.reset(seed=[7, 8, 9])[0]), as_parts(counted.reset(seed=7)[0])
    assert np.array_equal(first["user"], second["user"])


def test_users_swipe_through_an_imported_world() -> None:
    items = generated.catalogue(seed=1, n=200, now_ms=1_700_000_000_000)
    users = generated.users(seed=1, n=20, now_ms=1_700_000_000_000)
    world = make_world(generated_responses(), items, seed=1)
    arguments: dict[str, Any] = {
        "preset": world.preset("imported"),
        "cast": FittedUsers(world, users),
        "supply": FixedSupply(stock_of(world)),
    }
    vector, one = SwipeVectorEnv(30, **arguments), SwipeEnv(**arguments)
    assert assert_lives_alone_as_in_a_vector(vector, {11: one}, seed=0, n_steps=30) == 0
    assert vector.observation_space["item"].shape == (30, 20, 32 + len(ITEM_FACTS))  # type: ignore[index] # a Dict


def test_gymnasium_makes_the_vector() -> None:
    register_envs()
    env = gymnasium.make_vec("nextswipe/Swipe-v0", num_envs=5, preset=PRESET, render_mode=None)
    assert isinstance(env.unwrapped, SwipeVectorEnv)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1].shape == (5,)
