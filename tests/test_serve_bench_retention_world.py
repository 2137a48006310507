import numpy as np
import pytest
from msgspec.structs import asdict

from env.crowd import Crowd
from env.observe import RECENT, USER_FACTS
from env.played_lives import People, PlayedLives, play_lives
from env.presets import load
from env.swiping import Swiping
from env.vector import SwipeVectorEnv
from env.vocabulary import Ints
from policies.retention.rankings import (
    Weights,
    weigh,
)
from policies.retention.search_args import SearchedArgs
from serve.bench.retention_mixes import Mixture
from serve.bench.retention_moved import QUARTER, move_constants, still
from serve.retention_gains import gain_in_d30, gain_in_days

RAPID = load("rapid")
PLAYED, UNBAITED = Weights(weigh(valid_play=1.0)), Weights(weigh(bait_guess=-1.0))


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


def test_a_mixture_of_all_of_one_ranking_is_that_ranking() -> None:
    people = People(3, 16, 1, days=10)
    mixed = play_lives(RAPID, Mixture(1.0, PLAYED, UNBAITED).open(0), people)
    alone = play_lives(RAPID, PLAYED.open(0), people)
    assert mixed.watch_s.tolist() == alone.watch_s.tolist()


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


def test_the_bench_compares_all_policies_and_worlds_on_people_of_their_own() -> None:
    pytest.importorskip("torch")
    from serve.bench.retention_world import WorldSize, run_world

    size = WorldSize(
        people=32,
        places=16,
        moved=1,
        moved_people=16,
        training=SearchedArgs(
            preset="rapid",
            n_people=16,
            n_turns=16,
            n_judged=16,
            judged_days=35,
            days=4,
            n_generations=1,
        ),
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
