"""The gate: each of its conditions holds a candidate back on its own, and says so."""

import msgspec
import numpy as np
import pytest
from worlds import LIKES, World, lines

from policies.baselines import mixture_policy
from replay.estimators.intervals import Estimate
from replay.evaluate.evaluate import PolicyReport, evaluate
from replay.join.dataset import read
from serve.learn.gate import Gate


def estimate(value: float, half: float) -> Estimate:
    """Return an estimate with this interval to both sides."""
    return Estimate(
        "any", value, half / 2, value - half, value + half, 0.95, n=2000, n_users=50, ess=900.0
    )


@pytest.fixture(scope="module")
def report() -> PolicyReport:
    """Return the report of the log's own policy: as good as itself."""
    world = World(rng=np.random.default_rng(7))
    records = list(world.items())
    policy = mixture_policy(0.3)
    for _, its_records in world.pages(policy, n_users=60, pages_each=6, eps=0.1, arm="one"):
        records += its_records
    return evaluate(read(lines(records), LIKES), policy, force=True)


def healthy(report: PolicyReport, **changes: float) -> PolicyReport:
    """Return a report that passes, with these figures of its health instead."""
    figures = {
        "n_users": 50,
        "ess": 900.0,
        "max_weight_share": 0.01,
        "mean_weight": 1.0,
        "mean_weight_se": 0.02,
    }
    return msgspec.structs.replace(
        report,
        logged=estimate(0.5, 0.02),
        gain=estimate(0.05, 0.04),
        health=msgspec.structs.replace(report.health, **{**figures, **changes}),
    )


def test_what_does_no_harm_by_a_healthy_log_passes(report: PolicyReport) -> None:
    assert Gate().refusals(healthy(report)) == ()


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"n_users": 19}, "users: expected at least 20, got 19"),
        (
            {"ess": 499.0},
            "effective sample size: expected at least 500 decisions, got 499 of {n:,}",
        ),
        (
            {"max_weight_share": 0.06, "max_weight": 9.0},
            (
                "largest weight: expected at most 5.0% of all weight on one decision, "
                "got 6.0% (a weight of 9.0)"
            ),
        ),
        ({"mean_weight": 0.8}, "mean weight: expected within 0.10 of 1, got 0.80"),
        ({"mean_weight": 1.2}, "mean weight: expected within 0.10 of 1, got 1.20"),
        (
            {"mean_weight": 0.7, "mean_weight_se": 0.09},
            "mean weight: expected within 0.27 of 1, got 0.70",
        ),
    ],
)
def test_a_log_that_can_say_little_holds_a_candidate_back(
    report: PolicyReport, changes: dict[str, float], refusal: str
) -> None:
    expected = refusal.format(n=report.logged.n)
    assert Gate().refusals(healthy(report, **changes)) == (expected,)


@pytest.mark.parametrize(
    ("gain", "half", "margin", "passes"),
    [
        (0.05, 0.04, 0.0, True),  # better for sure
        (0.03, 0.04, 0.0, False),  # better, perhaps
        (0.0, 0.004, 0.0, False),  # as good for sure: not better
        (0.0, 0.004, 0.01, True),  # as good for sure: loses less than .01 x .5
        (0.0, 0.006, 0.01, False),  # as good, but it may lose more
        (-0.02, 0.01, 0.01, False),  # worse
    ],
)
def test_it_passes_what_is_sure_to_lose_no_more_than_the_margin(
    report: PolicyReport, gain: float, half: float, margin: float, passes: bool
) -> None:
    judged = msgspec.structs.replace(healthy(report), gain=estimate(gain, half))
    refusals = Gate(margin=margin).refusals(judged)
    assert [refusal.partition(":")[0] for refusal in refusals] == ([] if passes else ["harm"])


def test_all_that_is_wrong_is_said(report: PolicyReport) -> None:
    judged = msgspec.structs.replace(healthy(report, ess=3.0), gain=estimate(-0.2, 0.1))
    assert [r.partition(":")[0] for r in Gate().refusals(judged)] == [
        "effective sample size",
        "harm",
    ]


def test_a_margin_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin must be at least 0, got -0\.1"):
        Gate(margin=-0.1)


def test_a_policy_is_as_good_as_itself_by_a_real_log(report: PolicyReport) -> None:
    assert report.health.ess == report.health.n
    assert report.gain is not None
    assert abs(report.gain.value) < 3 * report.gain.se
    assert Gate(margin=0.2).refusals(report) == ()
    assert Gate(margin=0.0).refusals(report) != ()
