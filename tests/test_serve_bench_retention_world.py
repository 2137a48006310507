import dataclasses

import numpy as np
import pytest
from msgspec.structs import asdict, replace

from env.crowd import Crowd
from env.observe import RECENT, USER_FACTS
from env.played_lives import People, PlayedLives, play_lives
from env.presets import Preset, load
from env.swiping import Swiping
from env.vector import SwipeVectorEnv
from env.vocabulary import Ints
from policies.pmfs import softmax
from policies.ranker import Ranker
from policies.retention.myopic import tune_myopic
from policies.retention.rankings import (
    COLUMNS,
    AtRandom,
    Weights,
    columns,
    scores,
    weigh,
)
from policies.retention.search import search_weights
from policies.retention.teacher import watch_teacher
from serve.bench.retention_mixes import Mixture
from serve.bench.retention_moved import QUARTER, move_constants, still
from serve.retention_gains import gain_in_d30, gain_in_days

RAPID = load("rapid")
PLAYED, UNBAITED = Weights(weigh(valid_play=1.0)), Weights(weigh(bait_guess=-1.0))


def loyal(preset: Preset) -> Preset:
    """Return a world whose people are back on the next day, always."""
    classes = (1.0 - 1e-12, 1.0 - 1e-12)
    return replace(preset, moods=replace(preset.moods, return_classes=classes, churn=0.0))


def test_who_is_back_every_day_has_as_many_active_days_as_there_are_days() -> None:
    lives = play_lives(loyal(RAPID), AtRandom().open(0), People(5, 8, 2, days=40))
    assert lives.active_days.tolist() == [40.0] * 16
    assert lives.day_30.tolist() == [1.0] * 16
    assert lives.churned.tolist() == [0.0] * 16


def test_a_life_hangs_neither_on_who_lives_beside_it_nor_on_how_many_come_after() -> None:
    few = play_lives(RAPID, PLAYED.open(0), People(5, 4, 1, days=20))
    many = play_lives(RAPID, PLAYED.open(0), People(5, 8, 2, days=20))
    for field in dataclasses.fields(PlayedLives):
        assert getattr(few, field.name).tolist() == getattr(many, field.name)[:4].tolist()


def test_places_that_are_named_twice_live_the_same_life_twice() -> None:
    lives = play_lives(RAPID, PLAYED.open(0), People(0, 4, 1, days=20), np.array([7, 8, 7, 8]))
    assert lives.cards[:2].tolist() == lives.cards[2:].tolist()


def test_the_gain_of_a_tenth_more_days_is_a_tenth_and_certain() -> None:
    rng = np.random.default_rng(0)
    days, zeros = rng.integers(1, 60, 500).astype(np.float64), np.zeros(500)
    theirs = PlayedLives(days, zeros, days, days, days, zeros)
    mine = PlayedLives(1.1 * days, zeros, days, days, days, zeros)
    gain = gain_in_days(mine, theirs)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


def test_intervals_of_gains_hold_the_truth_in_about_19_of_20() -> None:
    rng, held_days, held_d30 = np.random.default_rng(1), 0, 0
    zeros = np.zeros(400)
    for _ in range(400):
        person = rng.gamma(4.0, 5.0, 400)
        theirs, mine = person + rng.normal(0, 3, 400), 1.05 * person + rng.normal(0, 3, 400)
        there, here = (np.where(rng.random(400) < p, 1.0, 0.0) for p in (0.4, 0.5))
        a = PlayedLives(mine, here, zeros, zeros, zeros, zeros)
        b = PlayedLives(theirs, there, zeros, zeros, zeros, zeros)
        days, d30 = gain_in_days(a, b), gain_in_d30(a, b)
        held_days += days.low <= 0.05 <= days.high
        held_d30 += d30.low <= 0.1 <= d30.high
    se = np.sqrt(400 * 0.95 * 0.05)
    assert abs(held_days - 380) < 4 * se
    assert abs(held_d30 - 380) < 4 * se


def test_each_constant_of_a_moved_world_is_moved_by_at_most_a_quarter() -> None:
    moved = move_constants(load("kuairand"), 3)
    ours = load("kuairand")
    for part in ("moods", "rates", "priors"):
        before, after = asdict(getattr(ours, part)), asdict(getattr(moved, part))
        for name in before.keys() - {"return_watch_s", "like", "exit", "skip_mu", "watch_mu"}:
            was, now = np.atleast_1d(before[name]), np.atleast_1d(after[name])
            assert (np.abs(now - was) <= QUARTER * np.abs(was) + 1e-12).all(), name
            assert (now != was).all() or not was.any(), name
    for name in ("like", "exit"):
        part = "rates" if name == "like" else "moods"
        odds = np.exp(getattr(getattr(moved, part), name) - getattr(getattr(ours, part), name))
        assert 1.0 - QUARTER <= odds <= 1.0 + QUARTER
    assert moved.population.shares() == ours.population.shares()


def test_moved_worlds_are_the_same_by_seed_and_differ_between_seeds() -> None:
    assert move_constants(RAPID, 3) == move_constants(RAPID, 3)
    assert move_constants(RAPID, 3) != move_constants(RAPID, 4)


def test_satisfaction_stays_where_nothing_is_slow() -> None:
    crowds: list[Crowd] = []

    def choose(observation: dict[str, Ints], swiping: Swiping) -> Ints:
        crowds.append(swiping.crowd)
        assert (swiping.crowd.satisfaction == 0.5).all()
        return np.zeros(8, dtype=np.int64)

    play_lives(still(RAPID), choose, People(0, 8, 1, days=10))
    assert crowds


def test_weights_of_each_person_score_as_weights_of_all_do() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    weights = np.random.default_rng(0).normal(size=2 * len(COLUMNS))
    found, load_ = columns(observation)
    own = np.tile(weights, (16, 1)).T[:, :, None]
    np.testing.assert_allclose(
        scores(found, load_, weights), scores(found, load_, own), rtol=1e-4, atol=1e-5
    )


def test_the_load_of_the_columns_follows_the_cards_of_the_session() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    for _ in range(6):
        observation = env.step(np.zeros(16, dtype=np.int64))[0]
    _, found = columns(observation)
    expected = 1.0 - 0.95**env.swiping.crowd.position
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_what_cheats_sees_true_bait_and_load() -> None:
    env = SwipeVectorEnv(16, preset=RAPID)
    observation, _ = env.reset(seed=0)
    for _ in range(4):
        observation = env.step(np.zeros(16, dtype=np.int64))[0]
    guessed, _ = columns(observation)
    found, load_ = columns(observation, env.swiping)
    guess = guessed[COLUMNS.index("bait_guess")]
    bait = found[COLUMNS.index("bait_guess")]
    assert 0.1 < np.std(guess - bait) < 0.3
    np.testing.assert_allclose(
        load_[:, 0] * RAPID.moods.load_step / (1.0 - RAPID.moods.load_decay),
        env.swiping.crowd.load,
        rtol=1e-5,
    )


def test_a_mixture_of_all_of_one_ranking_is_that_ranking() -> None:
    people = People(3, 16, 1, days=10)
    mixed = play_lives(RAPID, Mixture(1.0, PLAYED, UNBAITED).open(0), people)
    alone = play_lives(RAPID, PLAYED.open(0), people)
    assert mixed.watch_s.tolist() == alone.watch_s.tolist()


def test_a_bandit_earns_more_a_card_than_chance_and_than_its_prediction_of_plays() -> None:
    judged = People(2**20, 256, 1, days=14)
    bandit = tune_myopic(RAPID, People(0, 256), judged, n_turns=60, seed=0)
    earned = [
        play_lives(RAPID, policy.open(0), judged).reward_a_card()
        for policy in (AtRandom(), PLAYED, bandit)
    ]
    assert earned[0] < 0.9 * earned[1]
    assert earned[2] > 0.98 * earned[1]


def test_a_search_finds_what_brings_people_back() -> None:
    slow = replace(RAPID.moods, return_satisfaction=8.0, satisfaction_step=0.2)
    preset = replace(RAPID, moods=slow)
    found = search_weights(preset, People(10**6, 16, 1, days=14), PLAYED, "life", 4, seed=0)
    judged = People(2**20, 256, 1, days=14)
    assert found.weights[COLUMNS.index("bait_guess")] < 0.0
    days = [play_lives(preset, p.open(0), judged).active_days.mean() for p in (PLAYED, found)]
    assert days[1] > 1.02 * days[0]


def test_a_teacher_is_watched_where_it_serves_itself() -> None:
    users, rows, pmf = watch_teacher(RAPID, PLAYED, People(0, 8), 16, seed=0)
    assert (len(users), len(rows), pmf.shape) == (16, 16, (16, 20))
    np.testing.assert_allclose(pmf.sum(axis=1), 1.0, rtol=1e-5)
    most_likely = rows[..., -1].argmax(axis=1)
    assert (pmf.argmax(axis=1) == most_likely).all()


def test_the_server_keeps_a_running_mean_of_the_guessed_bait() -> None:
    env = SwipeVectorEnv(8, preset=RAPID)
    env.reset(seed=0)
    observer, swiping = env.swiping.observer, env.swiping
    expected = np.zeros(8)
    for _ in range(3):
        guess = swiping.stock.bait_guess[swiping.candidates.rows[:, 0]]
        env.step(np.zeros(8, dtype=np.int64))
        expected += RECENT * (guess - expected)
    np.testing.assert_allclose(observer.facts[USER_FACTS.index("bait_guess")], expected, rtol=1e-6)


def test_a_network_ranks_as_the_weights_that_it_learned_from() -> None:
    pytest.importorskip("torch")
    from policies.retention.distilled import learn

    teacher = Weights(weigh(valid_play=1.0, bait_guess=-1.0))
    policy = learn(RAPID, teacher, People(0, 128), 240, seed=0).policy
    users, rows, pmf = watch_teacher(RAPID, teacher, People(10**6, 64), 40, seed=0)
    learned = softmax(Ranker.from_bytes(policy.ranker).batch_scores(users, rows))
    uniform = float((pmf * np.log(pmf * pmf.shape[1] + 1e-30)).sum(axis=1).mean())
    apart = float((pmf * np.log((pmf + 1e-30) / learned)).sum(axis=1).mean())
    assert apart < 0.5 * uniform


def test_the_bench_compares_all_policies_and_worlds_on_people_of_their_own() -> None:
    pytest.importorskip("torch")
    from serve.bench.retention_world import WorldSize, run_world

    size = WorldSize(
        people=32,
        days=35,
        places=16,
        judged=16,
        tuning=16,
        turns=16,
        search_days=4,
        generations=1,
        moved=1,
        moved_people=16,
        preset="rapid",
    )
    stages: list[str] = []
    result = run_world(size, seed=1, advance=lambda s, done, n: stages.append(s), processes=1)
    names = ["random", "myopic", "constant mix", "session", "weights", "retention", "informed"]
    assert [row.name for row in result.policies] == names
    assert " ".join(dict.fromkeys(stages)) == "tune search mix learn live still move"
    days = {row.name: row.active_days for row in result.policies}
    gain = result.gain_over_myopic
    assert gain.value == pytest.approx(days["retention"] / days["myopic"] - 1.0)
    assert gain.low < gain.value < gain.high
    assert result.moved_wins == sum(world.gain.value > 0.0 for world in result.moved) <= 1
