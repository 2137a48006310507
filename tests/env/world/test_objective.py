import numpy as np
import pytest
from small_worlds import PRESET, make

from env.reward import Reward, is_long_view, is_valid_play
from env.vocabulary import Feedback
from env.world.objective import ASKED_SHARE, LONG_VISIT_S, Objective, overtime_s
from env.world.world import CAP_S


def test_a_sessions_end_is_no_episodes_end_and_is_discounted_by_its_gap() -> None:
    env = make(500, reward="retention")
    env.reset(seed=0)
    n_sessions = 0
    for _ in range(60):
        _, reward, terminated, _, info = env.step(np.zeros(500, dtype=np.int64))
        ends = info["session_end"]
        n_sessions += int(ends.sum())
        assert (info["discount"][~ends] == 1.0).all()
        returned = ends & ~terminated
        expected = PRESET.day_discount ** info["gap_days"]
        np.testing.assert_allclose(info["discount"][returned], expected[returned], rtol=1e-12)
        assert not info["discount"][terminated].any()
        assert np.array_equal(reward, np.where(ends, info["discount"], 0.0))
        assert (info["gap_days"][returned] >= 1.0).all()
        assert not info["gap_days"][~returned].any()
    assert n_sessions > 500


@pytest.mark.parametrize("reward", ["watch", "engagement", "satisfaction", "retention", "mix"])
def test_a_reward_is_made_of_the_components_in_info(reward: str) -> None:
    env = make(100, reward=reward)
    env.reset(seed=0)
    for _ in range(40):
        _, worth, _, _, info = env.step(np.zeros(100, dtype=np.int64))
        expected = {
            "watch": info["watch_s"],
            "engagement": info["engagement"],
            "satisfaction": info["survey"],
            "retention": info["retention"],
            "mix": info["watch_s"] / 20.0 + 20.0 * info["retention"],
        }[reward]
        np.testing.assert_allclose(worth, expected, rtol=1e-12)


def test_engagement_is_the_reward_of_the_feedback() -> None:
    env, reward = make(200), Reward(like=2.0, not_interested=-3.0)
    env = make(200, reward=Objective("engagement", reward=reward))
    env.reset(seed=0)
    for _ in range(20):
        rows = env.swiping.candidates.rows[:, 3]
        cap_s = env.swiping.stock.columns[CAP_S][rows]
        _, worth, _, _, info = env.step(np.full(200, 3))
        for k in np.flatnonzero(info["n_cards"]):
            did = {name: bool(info[name][k]) for name in ("like", "comment", "share", "follow")}
            feedback = Feedback(
                seen=True,
                left=True,
                dwell_s=float(info["watch_s"][k]),
                not_interested=bool(info["not_interested"][k]),
                **did,  # type: ignore[arg-type]
            )
            assert abs(worth[k] - reward.of(feedback, float(cap_s[k]))) < 1e-12
            assert info["valid_play"][k] == is_valid_play(feedback.dwell_s, float(cap_s[k]))
            assert info["long_view"][k] == is_long_view(feedback.dwell_s, float(cap_s[k]))


@pytest.mark.slow
def test_the_survey_is_rare_and_right_on_average() -> None:
    n, n_steps = 4_000, 40
    env = make(n, reward="satisfaction")
    env.reset(seed=0)
    answers, truth = [], []
    for _ in range(n_steps):
        _, _, _, _, info = env.step(np.zeros(n, dtype=np.int64))
        stays = (info["n_cards"] == 1) & ~info["session_end"]
        answers.append(info["survey"][stays])
        truth.append(env.swiping.crowd.satisfaction[stays])
    given, felt = np.concatenate(answers), np.concatenate(truth)
    se = (ASKED_SHARE * (1.0 - ASKED_SHARE) / len(given)) ** 0.5
    assert set(np.unique(given * ASKED_SHARE)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert (given > 0.0).mean() <= ASKED_SHARE + 4.5 * se
    assert abs(given.mean() - felt.mean()) <= 4.5 * given.std() / len(given) ** 0.5


@pytest.mark.slow
def test_ranking_by_weights_shows_what_the_weights_ask_for() -> None:
    def mean_of(event: str, weights: list[float]) -> float:
        env = make(1_500, actions="weights", page_size=1)
        env.reset(seed=0)
        same = np.tile(np.array(weights, dtype=np.float32), (1_500, 1))
        return float(np.mean([env.step(same)[4][event].mean() for _ in range(12)]))

    watch, play, dislike = ([-1.0] * 8 for _ in range(3))
    watch[0], play[1], dislike[7] = 1.0, 1.0, 1.0
    uniform = make(1_500)
    uniform.reset(seed=0)
    by_chance = np.mean(
        [uniform.step(np.full(1_500, 19))[4]["valid_play"].mean() for _ in range(12)]
    )
    assert mean_of("valid_play", play) > 1.15 * by_chance
    assert mean_of("watch_s", watch) > mean_of("watch_s", dislike)


def test_well_being_fines_what_is_watched_beyond_the_first_hour_of_a_visit() -> None:
    env = make(200, reward=Objective("watch", wellbeing=3.0))
    env.reset(seed=0)
    crowd = env.swiping.crowd
    crowd.watched_s[:] = np.linspace(LONG_VISIT_S - 200.0, LONG_VISIT_S + 200.0, 200)
    n_fined = 0
    for _ in range(10):
        before = crowd.watched_s.copy()
        _, reward, _, _, info = env.step(np.zeros(200, dtype=np.int64))
        beyond = np.maximum(before + info["watch_s"] - LONG_VISIT_S, 0.0) - np.maximum(
            before - LONG_VISIT_S, 0.0
        )
        np.testing.assert_allclose(reward, info["watch_s"] - 3.0 / 60.0 * beyond, atol=1e-9)
        n_fined += int((beyond > 0.0).sum())
    assert n_fined > 200


def test_without_it_a_reward_is_what_it_was_to_the_last_bit() -> None:
    rewards = []
    for objective in (Objective("mix"), Objective("mix", wellbeing=0.0)):
        env = make(50, reward=objective)
        env.reset(seed=1)
        env.swiping.crowd.watched_s[:] = 2.0 * LONG_VISIT_S
        rewards.append(env.step(np.zeros(50, dtype=np.int64))[1])
    plain, without = rewards
    assert np.array_equal(plain, without)


def test_the_fines_of_a_visit_s_cards_add_up_to_what_it_is_beyond_the_hour() -> None:
    watch = np.random.default_rng(0).exponential(300.0, 40)
    before = np.cumsum(watch) - watch
    assert overtime_s(before, watch).sum() == pytest.approx(watch.sum() - LONG_VISIT_S)


def test_a_visit_s_limit_is_the_objective_s() -> None:
    env = make(200, reward=Objective("watch", wellbeing=3.0, visit_limit_min=0.5))
    env.reset(seed=0)
    before = env.swiping.crowd.watched_s.copy()
    _, reward, _, _, info = env.step(np.zeros(200, dtype=np.int64))
    beyond = np.maximum(before + info["watch_s"] - 30.0, 0.0)
    np.testing.assert_allclose(reward, info["watch_s"] - 3.0 / 60.0 * beyond, atol=1e-9)
    assert (beyond > 0.0).any()


def test_nights_are_fined_by_the_user_s_own_clock() -> None:
    env = make(200, reward=Objective("watch", night=6.0))
    env.reset(seed=0)
    crowd = env.swiping.crowd
    crowd.hour[:] = np.tile([23.5, 0.0, 4.9, 5.0], 50)
    crowd.watched_s[:] = np.tile([1_801.0, 0.0, 361.0, 0.0], 50)
    _, reward, _, _, info = env.step(np.zeros(200, dtype=np.int64))
    fined = np.tile([True, True, False, False], 50)
    np.testing.assert_allclose(reward, info["watch_s"] * np.where(fined, 0.9, 1.0), rtol=1e-12)


def test_the_tail_is_the_less_exposed_half_and_every_upload_of_the_day() -> None:
    env = make(300, reward="watch", supply="live", steps_per_day=1)
    env.reset(seed=0)
    for _ in range(4):
        stock, rows = env.swiping.stock, env.swiping.candidates.rows[:, 2].copy()
        exposures = stock.counts[0]
        assert 0.5 <= stock.is_tail.mean() < 0.55
        assert exposures[stock.is_tail].max() < exposures[~stock.is_tail].min()
        *_, info = env.step(np.full(300, 2))
        assert np.array_equal(info["tail"], info["n_cards"] * stock.is_tail[rows])
    assert env.swiping.stock.is_tail[env.swiping.stock.published >= 3.0].all()


@pytest.mark.parametrize("fine", ["wellbeing", "night"])
@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_a_bonus_for_long_visits_or_nights_is_refused(fine: str, amount: float) -> None:
    with pytest.raises(ValueError, match=f"expected {fine} of at least 0"):
        Objective(**{fine: amount})  # type: ignore[arg-type]


def test_a_limit_of_no_minutes_is_refused() -> None:
    with pytest.raises(ValueError, match="expected visit_limit_min above 0, got 0"):
        Objective(visit_limit_min=0.0)
