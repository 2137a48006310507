"""Models over batches say what their textbook siblings say, and never score whom they saw."""

import numpy as np
import pytest
from logs import Batches, draw_batch
from worlds import LIKES, World, lines

from policies.baselines import UniformPolicy
from replay.join.dataset import Dataset, read
from replay.reward_models.batch_models import MAX_CELLS, ByPage, fit_cells, fit_rewards, fit_ridges
from replay.reward_models.ridge import cross_fit, cross_fitted_tables


def make_log() -> Dataset:
    world = World(rng=np.random.default_rng(3))
    records = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=120, pages_each=3, eps=0.1):
        records += its_records
    return read(lines(records), LIKES)


def test_ridges_by_moments_are_those_fitted_on_everybody_elses_decisions() -> None:
    log = make_log()
    model, expected = fit_ridges(log), ByPage(cross_fit(log))
    for batch in log.batches():
        np.testing.assert_allclose(model.predict(batch), expected.predict(batch), atol=1e-9)


def test_a_foreign_log_with_features_is_fitted_on_them() -> None:
    features = np.random.default_rng(5).normal(size=(2_000, 4, 2))
    batch = draw_batch(2_000, 4, action_context=features)
    reward = 0.5 + 0.2 * features[np.arange(2_000), batch.action, 0]
    source = Batches([draw_batch(2_000, 4, action_context=features, reward=reward)])
    predicted = fit_rewards(source).predict(batch)
    kept_within = np.clip(0.5 + 0.2 * features[:, :, 0], np.quantile(reward, 0.005), reward.max())
    off = np.abs(predicted - kept_within)
    assert np.quantile(off, 0.99) < 0.01  # each fold keeps within the rewards that it saw


def test_cells_are_the_shrunk_means_of_everybody_elses_decisions_in_any_batches() -> None:
    rng = np.random.default_rng(6)
    held = [draw_batch(500, 4, seed=s, slot=rng.integers(0, 3, 500)) for s in range(3)]
    model = fit_cells(Batches(held))
    user, slot, action, reward = (
        np.concatenate([getattr(batch, name) for batch in held])
        for name in ("user", "slot", "action", "reward")
    )
    tables = cross_fitted_tables(user, slot, action, reward, (3, 4))
    for batch in held:
        expected = tables[batch.user % 5, batch.slot]
        np.testing.assert_allclose(model.predict(batch), expected, atol=1e-12)


def test_rows_that_stand_for_several_count_as_often() -> None:
    counts = np.random.default_rng(7).integers(1, 4, 600)
    features = np.random.default_rng(8).normal(size=(600, 4, 2))
    once = draw_batch(600, 4, action_context=features, row_weight=counts.astype(np.float64))
    rows = np.repeat(np.arange(600), counts)
    names = ("user", "reward", "propensity", "action", "slot", "at_ms", "mask", "pmf")
    again = {name: getattr(once, name)[rows] for name in names}
    often = draw_batch(600, 4, **again, action_context=features[rows])
    for fit in (fit_ridges, fit_cells):
        mine, theirs = fit(Batches([once])), fit(Batches([often]))
        np.testing.assert_allclose(mine.predict(once), theirs.predict(once), atol=1e-2)


def test_nobody_is_scored_by_their_own_decisions() -> None:
    """One user is paid a hundred times as much: only others' predictions may know of it."""
    user = np.arange(1_000) % 50
    reward = np.where(user == 7, 100.0, 0.0)
    batch = draw_batch(1_000, 4, user=user, reward=reward)
    predicted = fit_cells(Batches([batch])).predict(batch)
    same_fold = user % 5 == 7 % 5
    assert (predicted[same_fold] == 0.0).all()
    assert (predicted[~same_fold] > 0.0).all()


@pytest.mark.parametrize("fit", [fit_ridges, fit_cells])
def test_users_in_one_fold_are_too_few(fit: object) -> None:
    alone = draw_batch(100, 4, user=np.zeros(100, dtype=np.int64), action_context=np.ones((4, 1)))
    assert callable(fit)
    with pytest.raises(ValueError, match="users in more than one fold"):
        fit(Batches([alone]))


def test_an_action_that_was_never_fitted_is_refused() -> None:
    model = fit_cells(Batches([draw_batch(500, 4)]))
    with pytest.raises(
        ValueError, match="at most 1 places and 4 actions, as fitted on, got 1 and 6"
    ):
        model.predict(draw_batch(500, 6))


def test_a_table_of_too_many_cells_is_refused_before_it_is_made() -> None:
    batch = draw_batch(20, 4, slot=np.full(20, MAX_CELLS // 4))
    with pytest.raises(ValueError, match="at most 2,000,000 places times actions, got 500,001 tim"):
        fit_cells(Batches([batch]))
