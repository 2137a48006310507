"""Balanced weights: several loggers that served at one time count as the mixture that they were."""

from collections.abc import Callable

import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.interface import Policy, page_pmfs
from env.records import PageRecord, Record
from policies.baselines import PopularityPolicy, UniformPolicy
from policies.explorers import Softmax
from replay.evaluate.evaluate import PolicyReport, evaluate
from replay.join.our_log import LogSource
from replay.join.page_batches import Logger, Loggers, mixture_pmfs

UNIFORM, SHARP = UniformPolicy(), PopularityPolicy(Softmax(0.07))
TARGET = PopularityPolicy(Softmax(0.2), name="between@0")
ARMS: dict[str, tuple[float, Policy]] = {"uniform": (0.25, UNIFORM), "sharp": (0.75, SHARP)}
LOGGERS = [Logger(share, policy) for share, policy in ARMS.values()]
N_USERS, SEEDS = 80, 40


def log_of(world: World, n_users: int = N_USERS) -> list[Record]:
    """Return pages of users who are dealt to the arms by their shares."""
    records: list[Record] = list(world.items())
    for arm, (share, policy) in ARMS.items():
        for _, its in world.pages(policy, round(share * n_users), 3, eps=0.05, arm=arm):
            records += its
    return records


def find(page: PageRecord) -> Policy:
    return ARMS[page.arm][1]


def report_of(seed: int, loggers: Callable[[], Loggers] | None) -> PolicyReport:
    world = World(rng=np.random.default_rng(seed), seen_share=0.8)
    records = log_of(world)
    source = LogSource(lambda: lines(records), LIKES, behaviour=find, loggers=loggers)
    return evaluate(source, TARGET, oracle=world.likes, force=True)


def balanced() -> Loggers:
    return lambda page, is_known: LOGGERS if is_known else ()


@pytest.fixture(scope="module")
def reports() -> dict[str, list[PolicyReport]]:
    return {
        "own": [report_of(seed, None) for seed in range(SEEDS)],
        "balanced": [report_of(seed, balanced) for seed in range(SEEDS)],
    }


@pytest.mark.parametrize("weights", ["own", "balanced"])
@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_estimates_are_unbiased(
    reports: dict[str, list[PolicyReport]], weights: str, estimator: str
) -> None:
    errors = np.array(
        [each.estimate(estimator).value - (each.truth or 0.0) for each in reports[weights]]
    )
    assert abs(errors.mean()) <= 3.0 * errors.std(ddof=1) / np.sqrt(SEEDS)


def test_weights_have_a_mean_of_one(reports: dict[str, list[PolicyReport]]) -> None:
    means = np.array([each.health.mean_weight for each in reports["balanced"]])
    assert abs(means.mean() - 1.0) <= 3.0 * means.std(ddof=1) / np.sqrt(SEEDS)


def test_more_decisions_are_effective_and_errors_are_smaller(
    reports: dict[str, list[PolicyReport]],
) -> None:
    ess = {name: np.array([r.health.ess for r in its]) for name, its in reports.items()}
    assert (ess["balanced"] > ess["own"]).mean() >= 0.9  # own weights are at times lucky
    assert ess["balanced"].mean() > 1.3 * ess["own"].mean()
    errors = {
        name: np.std([r.estimate("ips").value - (r.truth or 0.0) for r in its])
        for name, its in reports.items()
    }
    assert errors["balanced"] < errors["own"]


def test_the_draws_still_test_each_pages_own_propensities() -> None:
    records = log_of(World(rng=np.random.default_rng(1)))
    (own,) = LogSource(lambda: lines(records), LIKES, behaviour=find).batches()
    source = LogSource(lambda: lines(records), LIKES, behaviour=find, loggers=balanced)
    (mixed,) = source.batches()
    assert np.array_equal(own.draws.propensity, mixed.draws.propensity)
    assert np.array_equal(own.draws.pmf, mixed.draws.pmf)  # type: ignore[arg-type]
    assert not np.array_equal(own.propensity, mixed.propensity)
    assert mixed.pmf is not None
    assert mixed.pmf.sum(axis=1) == pytest.approx(np.ones(len(mixed)))
    assert np.array_equal(mixed.of_chosen(mixed.pmf), mixed.propensity)


def test_a_page_is_as_likely_under_the_mixture_as_the_loggers_together_make_it() -> None:
    world = World(rng=np.random.default_rng(2))
    for page, _ in world.pages(SHARP, 5, 2, eps=0.05):
        mixed = mixture_pmfs(page, LOGGERS)
        joint = np.prod([pmf[d.action] for pmf, d in zip(mixed, page.decisions, strict=True)])
        parts = [
            logger.share * np.prod([pmf[d.action] for d, pmf in page_pmfs(page, logger.policy)])
            for logger in LOGGERS
        ]
        assert joint == pytest.approx(sum(parts), rel=1e-12)


def test_one_logger_is_its_own_mixture() -> None:
    world = World(rng=np.random.default_rng(2))
    ((page, _),) = world.pages(SHARP, 1, 1, eps=0.05)
    mixed = mixture_pmfs(page, [Logger(3.0, SHARP)])
    for row, decision in zip(mixed, page.decisions, strict=True):
        assert row[decision.action] == pytest.approx(decision.propensity, rel=1e-12)
