import numpy as np
import pytest
from msgspec.structs import asdict

from env.gym.vector import SwipeVectorEnv
from env.report.played_lives import EvaluationRollouts, EvaluationUsers, evaluation_rollouts
from env.vocabulary import Ints
from env.world.crowd import UserBatch
from env.world.observer import RECENT, USER_FACTS
from env.world.presets import load
from env.world.simulation import Simulation
from policies.training.rankings import WeightedRanking, named_weights
from policies.training.search.settings import SearchTrainingArgs
from serve.jobs.train_search import gain_in_d30, gain_in_days
from tests.studies.retention.world import QUARTER, Mixture, move_constants, still

RAPID = load("rapid")
PLAYED, UNBAITED = (
    WeightedRanking(named_weights(valid_play=1.0)),
    WeightedRanking(named_weights(bait_guess=-1.0)),
)


def test_the_gain_of_a_tenth_more_days_is_a_tenth_and_certain() -> None:
    rng = np.random.default_rng(0)
    days, zeros = rng.integers(1, 60, 500).astype(np.float64), np.zeros(500)
    theirs = EvaluationRollouts(days, zeros, days, days, days, zeros)
    mine = EvaluationRollouts(1.1 * days, zeros, days, days, days, zeros)
    gain = gain_in_days(mine, theirs)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))


def test_intervals_of_gains_hold_the_truth_in_about_19_of_20() -> None:
    rng, held_days, held_d30 = np.random.default_rng(1), 0, 0
    zeros = np.zeros(400)
    for _ in range(400):
        user = rng.gamma(4.0, 5.0, 400)
        theirs, mine = user + rng.normal(0, 3, 400), 1.05 * user + rng.normal(0, 3, 400)
        there, here = (np.where(rng.random(400) < p, 1.0, 0.0) for p in (0.4, 0.5))
        a = EvaluationRollouts(mine, here, zeros, zeros, zeros, zeros)
        b = EvaluationRollouts(theirs, there, zeros, zeros, zeros, zeros)
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
    crowds: list[UserBatch] = []

    def choose(observation: dict[str, Ints], swiping: Simulation) -> Ints:
        crowds.append(swiping.crowd)
        assert (swiping.crowd.satisfaction == 0.5).all()
        return np.zeros(8, dtype=np.int64)

    evaluation_rollouts(still(RAPID), choose, EvaluationUsers(0, 8, 1, days=10))
    assert crowds


def test_a_mixture_of_all_of_one_ranking_is_that_ranking() -> None:
    users = EvaluationUsers(3, 16, 1, days=10)
    mixed = evaluation_rollouts(RAPID, Mixture(1.0, PLAYED, UNBAITED).open(0), users)
    alone = evaluation_rollouts(RAPID, PLAYED.open(0), users)
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


def test_the_bench_compares_all_policies_and_worlds_on_users_of_their_own() -> None:
    pytest.importorskip("torch")
    from tests.studies.retention.world import WorldSize, run_world

    size = WorldSize(
        users=32,
        places=16,
        moved=1,
        moved_users=16,
        training=SearchTrainingArgs(
            preset="rapid",
            n_users=16,
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
