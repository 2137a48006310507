"""The benchmarks of intervals and of the default estimator, short: their worlds, sums and rules."""

import numpy as np
import pytest

from replay.estimators.choice import DEFAULT
from replay.estimators.tuning import WIDTH
from tests.studies.evaluation.coverage import SIZES, run_coverage
from tests.studies.evaluation.default import run_default
from tests.studies.evaluation.worlds import KINDS, CatalogueWorld, Scale, World


def silent(_: str, __: int, ___: int) -> None:
    return


@pytest.mark.parametrize("scale", ["event", "amount"])
def test_the_truth_of_a_world_is_what_its_logs_say_in_the_mean(scale: Scale) -> None:
    world = World("valid", "mild", 3)
    log = world.draw(np.random.default_rng(1), 400_000)
    weights = world.target.take(log.cell) / world.logging.take(log.cell)
    terms = (weights * log.reward(scale)).reshape(-1, 4).sum(axis=1) / 4
    assert abs(terms.mean() - world.truth(scale)) <= 3 * terms.std() / np.sqrt(len(terms))
    assert weights.sum() ** 2 / (weights**2).sum() / len(weights) == pytest.approx(
        world.ess_share, rel=0.02
    )


def test_what_a_world_logs_as_a_propensity_is_how_often_it_draws() -> None:
    world = World("like", "strong", 4)
    log = world.draw(np.random.default_rng(2), 1_000_000)
    assert world.logging.sum(axis=1) == pytest.approx(np.ones(KINDS))
    assert (world.logging > 0.0).all()
    expected = np.bincount(log.kind, minlength=KINDS)[:, np.newaxis] * world.logging
    drawn = np.bincount(log.cell, minlength=world.logging.size).reshape(world.logging.shape)
    chi_square = ((drawn - expected) ** 2 / expected).sum()
    freedom = KINDS * (world.logging.shape[1] - 1)
    assert abs(chi_square - freedom) <= 4 * np.sqrt(2 * freedom)


def test_regimes_are_as_far_apart_as_they_say() -> None:
    for signal in ("valid", "like"):
        assert World(signal, "mild", 1).ess_share == pytest.approx(0.385, abs=0.03)
        assert World(signal, "strong", 1).ess_share == pytest.approx(0.175, abs=0.03)


def test_the_truth_of_a_catalogue_is_what_its_logs_say_in_the_mean() -> None:
    world = CatalogueWorld(34, 0.05, sampler_logs=False, seed=1)
    columns, predictions = world.columns(world.draw(np.random.default_rng(3), 100_000))
    terms = columns.weights * columns.reward
    assert abs(terms.mean() - world.truth) <= 3 * terms.std() / np.sqrt(len(terms))
    assert predictions.direct.mean() == pytest.approx(world.truth, rel=0.1)


def test_coverage_has_24_cells_whose_figures_do_not_depend_on_the_processes() -> None:
    one = run_coverage(runs=2, seed=1, advance=silent, sizes=(400, 800, 1200), processes=1)
    two = run_coverage(runs=2, seed=1, advance=silent, sizes=(400, 800, 1200), processes=2)
    assert one == two
    assert one.n_cells == len(one.cells) == 24
    assert len({(c.signal, c.distance, c.n, c.reward) for c in one.cells}) == 24
    assert SIZES == (2_000, 8_000, 32_000)


def test_intervals_cover_in_the_cells_of_small_logs() -> None:
    told: list[int] = []
    result = run_coverage(
        runs=150,
        seed=2,
        advance=lambda _, done, total: told.append(total - done),
        sizes=(2_000,),
        processes=1,
    )
    three_se = 3 * np.sqrt(0.95 * 0.05 / 150)
    for cell in result.cells:
        assert abs(cell.coverage["dr"] - 0.95) <= three_se
        assert abs(cell.coverage["snips"] - 0.95) <= three_se
        assert cell.coverage["cr"] >= 0.95
        assert cell.cr_width_ratio <= 1.8
    counted = sum(0.93 <= cell.coverage["dr"] <= 0.97 for cell in result.cells)
    assert result.dr_cells_in_band == counted
    assert result.cr_cells_above == 8
    assert told[-1] == 0


def test_the_default_is_a_candidate_that_beats_what_is_not_tuned() -> None:
    result = run_default(seeds=1, logs=2, seed=1, advance=silent)
    scores = [candidate.score for candidate in result.candidates]
    assert scores == sorted(scores)
    of = {candidate.estimator: candidate for candidate in result.candidates}
    assert of[f"{DEFAULT} {WIDTH}"].score < min(of["ips"].score, of["dm"].score)
    assert all(len(candidate.errors) == 16 for candidate in result.candidates)
