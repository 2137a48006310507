"""Shrunk means: as much of each cell as the log supports, and never of the user predicted."""

import numpy as np
import pytest

from replay.reward_models.ridge import cross_fitted_predictions, cross_fitted_tables, shrunk_table


def test_cells_without_rows_get_their_parents_mean() -> None:
    count = np.array([[100.0, 100.0, 0.0], [100.0, 100.0, 0.0]])
    mean = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    table = shrunk_table(count, count * mean, count * mean)  # rewards of 0 and 1
    assert table[:, 2] == pytest.approx([0.5, 0.5])
    assert table[:, :2] == pytest.approx(mean[:, :2], abs=0.01)


def test_noise_is_shrunk_away_and_effects_are_not() -> None:
    rng = np.random.default_rng(1)
    count = np.full((3, 40), 50.0)
    for spread, kept in ((0.0, 0.2), (0.2, 1.0)):
        chance = np.clip(0.4 + spread * rng.normal(size=40), 0.02, 0.98)
        clicks = rng.binomial(50, np.broadcast_to(chance, (3, 40))).astype(np.float64)
        table = shrunk_table(count, clicks, clicks)
        error, raw = table - chance, clicks / 50 - chance
        assert np.sqrt((error**2).mean()) < max(kept * 0.8, 0.2) * np.sqrt((raw**2).mean())


def test_a_table_of_rows_that_stand_for_more_is_that_of_the_rows_repeated() -> None:
    rng = np.random.default_rng(2)
    n = 400
    user, action = np.arange(n), rng.integers(5, size=n)
    segment, reward = rng.integers(2, size=n), rng.random(n)
    weight = rng.integers(1, 4, size=n)
    rows = np.repeat(user, weight)
    short = cross_fitted_tables(user, segment, action, reward, (2, 5), weight.astype(np.float64))
    long = cross_fitted_tables(user[rows], segment[rows], action[rows], reward[rows], (2, 5))
    assert short == pytest.approx(long)


def test_a_users_own_rewards_do_not_move_its_predictions() -> None:
    rng = np.random.default_rng(3)
    n = 600
    user, action = np.arange(n) // 3, rng.integers(4, size=n)
    segment, reward = rng.integers(2, size=n), rng.random(n)
    target = rng.dirichlet(np.ones(4), size=n)
    before = cross_fitted_predictions(user, segment, action, reward, target)
    moved = np.where(user == 7, reward + 50.0, reward)
    after = cross_fitted_predictions(user, segment, action, moved, target)
    own, fold = user == 7, user % 5 == 7 % 5
    assert (after.chosen[own] == before.chosen[own]).all()
    assert after.direct[fold] == pytest.approx(before.direct[fold])
    assert (after.chosen[~fold] != before.chosen[~fold]).all()


def test_direct_is_the_targets_mean_of_what_chosen_would_be() -> None:
    rng = np.random.default_rng(4)
    n = 200
    user, action, segment = np.arange(n), rng.integers(3, size=n), np.zeros(n, dtype=np.int64)
    certain = np.eye(3)[action]
    predictions = cross_fitted_predictions(user, segment, action, rng.random(n), certain)
    assert predictions.direct == pytest.approx(predictions.chosen)


@pytest.mark.parametrize(
    ("user", "n_folds", "message"),
    [([0, 1, 2], 1, "at least 2 folds, got 1"), ([5, 5, 5], 5, "more than one fold")],
)
def test_what_cannot_be_cross_fitted_is_refused(
    user: list[int], n_folds: int, message: str
) -> None:
    zeros = np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        cross_fitted_predictions(
            np.array(user), zeros, zeros, np.ones(3), np.ones((3, 1)), n_folds=n_folds
        )
