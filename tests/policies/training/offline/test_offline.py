"""Learning from logged lives, in a world where one column of a card says what it earns."""

import dataclasses
from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from logged_lives import behaviour, draw_lives

from env.pages.lives import NO_PAGE, LifeReward, Lives
from env.vocabulary import Floats
from policies.training.offline.critic import page_scores
from policies.training.offline.episodes import LoggedSteps, episodes_of
from policies.training.offline.expectile import expectile_loss
from policies.training.offline.job import OfflineTrainingResult, train_offline
from policies.training.offline.settings import Method, OfflineArgs
from policies.training.offline.tempering import choose_share, kl_from_log

pytestmark = pytest.mark.filterwarnings("ignore")  # RLlib's own, of which there are many
LIVES = draw_lives(150, seed=2)
OTHERS = draw_lives(150, seed=3)
ARGS = OfflineArgs(minibatch=256, lr=2e-2, policy_passes=2, hidden=16, embed=8)


@cache
def _trained(method: Method) -> OfflineTrainingResult:
    return train_offline(msgspec.structs.replace(ARGS, method=method), [LIVES])


def _gain(lives: Lives, scores: Floats) -> float:
    """Return what a card earns more under a policy than under the log's, exactly."""
    earned = lives.rows[:, :, 0].astype(np.float64)
    more = lives.pmfs(scores) - behaviour(lives.rows)[lives.page]
    return float((more * earned[lives.page]).sum(axis=1).mean())


def test_episodes_are_whole_users_and_hold_what_was_logged() -> None:
    last_page = np.where(np.arange(LIVES.n_lives) % 2, NO_PAGE, 7)
    lives = dataclasses.replace(LIVES, last_page=last_page)
    reward = LifeReward()
    episodes = episodes_of(lives, reward, "life")
    assert len(episodes) == lives.n_lives
    assert [episode.is_terminated for episode in episodes] == (last_page == NO_PAGE).tolist()
    steps = LoggedSteps.of(episodes)
    np.testing.assert_array_equal(steps.actions, lives.action)
    np.testing.assert_array_equal(steps.rewards, reward.rewards(lives))
    np.testing.assert_array_equal(steps.discounts, reward.discounts(lives))
    np.testing.assert_array_equal(steps.observations["item"], lives.candidates(lives.page))
    np.testing.assert_array_equal(steps.last["user"][0], lives.users(np.array([7]))[0])


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_lambda_returns_mix_what_came_with_what_was_expected(lambda_: float) -> None:
    steps = LoggedSteps.of(episodes_of(LIVES, LifeReward(), "session"))
    generator = np.random.default_rng(1)
    values = generator.normal(size=len(LIVES))
    last = generator.normal(size=LIVES.n_lives)
    after = LIVES.after(values, last)
    got = steps.lambda_returns(values, last, lambda_)
    follows = LIVES.after(got, last)  # beyond the log there is nothing but what is expected
    expected = steps.rewards + steps.discounts * ((1.0 - lambda_) * after + lambda_ * follows)
    np.testing.assert_allclose(got, expected)


def test_an_expectile_is_where_its_loss_is_least() -> None:
    draws = torch.tensor([0.0, 0.0, 0.0, 1.0])
    grid = np.linspace(0.0, 1.0, 1001)
    losses = [float(expectile_loss(draws - float(at), 0.75)) for at in grid]
    # tau (1 - e) = 3 (1 - tau) e for one draw of 1 among three of 0
    assert grid[int(np.argmin(losses))] == pytest.approx(0.5, abs=2e-3)


def test_the_share_is_the_largest_within_the_budget() -> None:
    def prior(lives: Lives) -> Floats:
        return np.asarray(np.log(behaviour(lives.rows)))

    def offsets(lives: Lives) -> Floats:
        return np.asarray(5.0 * lives.rows[:, :, 0].astype(np.float64))

    share = choose_share([LIVES], prior, offsets, 0.1)
    near, far = (
        kl_from_log(LIVES, LIVES.pmfs(prior(LIVES) + factor * share * offsets(LIVES)))
        for factor in (1.0, 1.02)
    )
    assert near <= 0.1 < far
    assert choose_share([LIVES], prior, lambda lives: 0.0 * offsets(lives), 0.1) == 1.0
    assert choose_share([LIVES], lambda lives: 9.0 * offsets(lives), offsets, 0.1) == 0.0


def test_a_clone_draws_like_the_log() -> None:
    trained = _trained("bc")
    pmfs = OTHERS.pmfs(page_scores(trained.ranker, OTHERS))
    true = behaviour(OTHERS.rows)[OTHERS.page]
    cloned = float((true * np.log(true / pmfs)).sum(axis=1).mean())
    uniform = float((true * np.log(true * true.shape[1])).sum(axis=1).mean())
    assert trained.share == 0.0
    assert cloned < 0.2 * uniform


@pytest.mark.parametrize("method", ["marwil", "iql", "cql"])
def test_a_policy_earns_more_and_stays_where_the_log_can_tell(method: Method) -> None:
    trained = _trained(method)
    assert 0.0 < trained.share <= 1.0
    scores = page_scores(trained.ranker, OTHERS)
    assert kl_from_log(OTHERS, OTHERS.pmfs(scores)) < 2.0 * ARGS.kl
    known = np.log(behaviour(OTHERS.rows)) + 0.2 * OTHERS.rows[:, :, 0].astype(np.float64)
    assert _gain(OTHERS, scores) > 0.5 * _gain(OTHERS, known)


def test_values_know_what_a_card_earns_and_what_follows() -> None:
    trained = _trained("iql")
    q = trained.critic.q(OTHERS)
    earned = OTHERS.rows[OTHERS.page][:, :, 0].astype(np.float64)
    assert np.corrcoef(q.ravel(), earned.ravel())[0, 1] > 0.8
    returned = LifeReward().return_worth * 0.97**2
    assert q.mean() == pytest.approx(returned, abs=0.15 * returned)


def test_the_same_seed_gives_the_same_ranker() -> None:
    args = msgspec.structs.replace(ARGS, critic_passes=1, prior_passes=1, policy_passes=1)
    few = LIVES.select(np.arange(LIVES.n_lives) < 30)
    first, second = (train_offline(args, [few]).ranker.to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "ppo"}, "expected method of bc, marwil, iql, cql"),
        ({"credit": "card"}, "expected credit of life, session"),
        ({"critic_passes": 0}, "expected critic_passes of at least 1"),
        ({"beta": 0.0}, "expected beta above 0"),
        ({"expectile": 1.0}, "expected expectile in"),
        ({"lambda_": 1.1}, "expected lambda_ in"),
        ({"seed": -1}, "expected seed of at least 0"),
    ],
)
def test_arguments_that_cannot_be_trained_with_are_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OfflineArgs(**wrong)  # type: ignore[arg-type]
