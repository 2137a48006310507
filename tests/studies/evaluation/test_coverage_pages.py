"""The page version of the coverage benchmark, short, and its world against its own draws."""

import numpy as np
import pytest

from tests.studies.evaluation.coverage import Covered
from tests.studies.evaluation.coverage_pages import (
    APPLY,
    MAX_BIAS,
    PagesResult,
    estimate_pages,
    run_pages,
)
from tests.studies.evaluation.worlds import (
    N_ITEMS,
    N_SCENES,
    N_SLOTS,
    ORDERS,
    PagePolicy,
    PageWorld,
)

APPEAL = np.random.default_rng(2).normal(-0.8, 0.9, size=(N_SCENES, N_ITEMS))
LOGGING, TARGET = PagePolicy.of(0.5 * APPEAL), PagePolicy.of(1.5 * APPEAL)
RUNS = 60


@pytest.fixture(scope="module")
def result() -> PagesResult:
    return run_pages(RUNS, seed=3, advance=lambda step, done, total: None)


@pytest.fixture(scope="module")
def cells(result: PagesResult) -> dict[tuple[str, str], Covered]:
    return {(cell.setting, cell.estimator): cell for cell in result.cells}


def test_a_policys_pages_are_a_distribution_and_draw_no_item_twice() -> None:
    assert LOGGING.order.sum(axis=1) == pytest.approx(np.ones(N_SCENES))
    assert LOGGING.conditional.sum(axis=3) == pytest.approx(np.ones(LOGGING.chosen.shape))
    assert all(len(set(order)) == N_SLOTS for order in ORDERS.tolist())


@pytest.mark.parametrize("policy", [LOGGING, TARGET])
def test_a_policys_exact_value_is_what_its_own_pages_earn(policy: PagePolicy) -> None:
    world = PageWorld.of(APPEAL)
    log = world.draw(policy, 4_000, 5, np.random.default_rng(1))
    earned = log.reward.sum(axis=1).reshape(4_000, 5).mean(axis=1)
    assert abs(earned.mean() - world.value(policy)) <= 3.0 * earned.std(ddof=1) / np.sqrt(4_000)


@pytest.mark.parametrize("size", [1_000, 4_000])
@pytest.mark.parametrize("target", ["near", "far"])
@pytest.mark.parametrize("estimator", APPLY)
def test_intervals_of_pages_hold_the_truth(
    cells: dict[tuple[str, str], Covered], size: int, target: str, estimator: str
) -> None:
    cell = cells[f"{size} pages, {target}", estimator]
    # 95% nominal, 91% asked for: three standard errors of the share below it.
    assert cell.coverage >= 0.91 - 3.0 * np.sqrt(0.91 * 0.09 / RUNS)
    assert abs(cell.bias_se) <= 3.5


def test_independent_ips_is_biased_in_a_cascade(cells: dict[tuple[str, str], Covered]) -> None:
    assert cells["4000 pages, far", "independent ips"].bias_se > 5.0


def test_the_less_an_estimator_assumes_the_noisier_it_is(
    cells: dict[tuple[str, str], Covered],
) -> None:
    widths = [
        cells["4000 pages, far", name].relative_half_width
        for name in ("joint ips", "reward-interaction ips", "cascade dr", "independent ips")
    ]
    assert widths == sorted(widths, reverse=True)


def test_the_logging_policys_own_pages_have_weights_of_one() -> None:
    log = PageWorld.of(APPEAL).draw(LOGGING, 50, 4, np.random.default_rng(1))
    mean = log.reward.sum(axis=1).mean()
    for estimate in estimate_pages(log, LOGGING, LOGGING):
        if estimate.estimator != "cascade dr":
            assert estimate.value == pytest.approx(mean)
            assert estimate.ess == pytest.approx(200)


def test_whole_pages_are_valued_without_bias_in_twelve_worlds(result: PagesResult) -> None:
    assert len({world.world for world in result.worlds}) == 12
    for world in result.worlds:
        assert abs(world.relative_bias) <= 3.5 * world.relative_bias_se
        assert world.relative_bias_se < MAX_BIAS
    n_logs = 12 * RUNS
    assert result.coverage >= 0.93 - 3.0 * np.sqrt(0.93 * 0.07 / n_logs)
    assert result.worlds_unbiased == sum(abs(w.relative_bias) <= MAX_BIAS for w in result.worlds)


def test_the_value_of_a_card_flatters_whoever_fills_pages(result: PagesResult) -> None:
    assert all(world.card_bias > MAX_BIAS for world in result.worlds)
