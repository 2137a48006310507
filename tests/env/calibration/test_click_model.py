import numpy as np
import pytest
from swipes import visits

from env.arrays.reals import logistic
from env.calibration.click_model import LEARN_SHARE, Histories, fit_clicks, holdout_auc
from env.calibration.fitting import auc
from env.vocabulary import Floats

N_PEOPLE, N_CARDS, N_ITEMS, N_DIMS = 400, 160, 120, 4


def histories(seed: int) -> tuple[Histories, Floats, Floats]:
    """Return histories under known log-odds, the items' vectors, and those log-odds."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N_ITEMS, N_DIMS)) / N_DIMS**0.5
    effect, lean = 0.5 * rng.normal(size=N_ITEMS), 0.5 * rng.normal(size=N_PEOPLE)
    taste = 0.6 * rng.normal(size=(N_PEOPLE, N_DIMS))
    item = rng.integers(0, N_ITEMS, (N_PEOPLE, N_CARDS))
    affinity = np.einsum("pcd,pd->pc", vectors[item], taste)
    log_odds = -0.2 + effect[item] + lean[:, None] + affinity
    valid = rng.random(item.shape) < np.asarray(logistic(log_odds))
    return Histories(item, valid), vectors, log_odds


def test_a_click_model_is_nearly_as_good_as_the_truth() -> None:
    shown, vectors, log_odds = histories(1)
    later = slice(int(LEARN_SHARE * N_CARDS), None)
    best = auc(shown.valid[:, later].ravel(), log_odds[:, later].ravel())
    found = holdout_auc(shown, vectors)
    assert best - 0.03 < found < best


def test_items_and_users_come_back() -> None:
    shown, vectors, log_odds = histories(2)
    score = fit_clicks(shown, vectors).score(shown.item, vectors)
    assert np.corrcoef(score.ravel(), log_odds.ravel())[0, 1] > 0.9
    assert score.mean() == pytest.approx(log_odds.mean(), abs=0.05)


def test_nothing_is_learned_where_users_do_not_differ() -> None:
    shown, vectors, _ = histories(3)
    chance = Histories(shown.item, np.random.default_rng(4).random(shown.item.shape) < 0.5)
    assert holdout_auc(chance, vectors) == pytest.approx(0.5, abs=4 * (1 / 12 / 4_000) ** 0.5)


def test_users_with_too_few_impressions_are_left_out() -> None:
    log = visits([[3], [5], [4]], [[0], [0], [0]])
    assert Histories.of(log, 4).item.shape == (2, 4)
    with pytest.raises(ValueError, match="users with 6 impressions"):
        Histories.of(log, 6)
