"""Plans: what they foretell of a log is what the same log needs once it is longer."""

import msgspec
import numpy as np
import pytest

from env.vocabulary import Floats
from replay.evaluate.evaluate import Evaluation, evaluate_all
from replay.evaluate.plan import plans
from replay.join.rows import CoverageCounts
from replay.source import Batch

K = 20
DAY_MS = 86_400_000


class Log:
    """Decisions of users who come at an even pace, drawn with a floor of `eps`."""

    reward_version, reward_range = 1, (0.0, 1.0)

    def __init__(self, n: int, *, eps: float = 0.2, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.pmf = np.full((n, K), eps / K)
        self.pmf[:, 0] += 1.0 - eps
        self.action = (rng.random((n, 1)) >= self.pmf.cumsum(axis=1)).sum(axis=1)
        self.reward = (rng.random(n) < 0.3 + 0.02 * self.action).astype(np.float64)
        self.user = np.arange(n) // 5
        self.at_ms = np.arange(n) * (DAY_MS // 2_000)  # 2,000 decisions a day

    @property
    def coverage(self) -> CoverageCounts:
        return CoverageCounts(len(self.user), len(self.user), 0)

    def batches(self):  # type: ignore[no-untyped-def]
        n = len(self.user)
        yield Batch(
            user=self.user,
            reward=self.reward,
            propensity=self.pmf[np.arange(n), self.action],
            action=self.action,
            slot=np.zeros(n, dtype=np.int64),
            at_ms=self.at_ms,
            mask=np.ones((n, K), dtype=np.bool_),
            pmf=self.pmf,
        )


class Last:
    """Always picks the last candidate, which the log shows with eps / K."""

    name = "last"

    def probabilities(self, batch: Batch) -> Floats:
        pmfs = np.zeros(batch.mask.shape)
        pmfs[:, -1] = 1.0
        return pmfs


def evaluation_of(log: Log) -> Evaluation:
    return evaluate_all(log, [Last()], force=True)


def test_the_gates_open_about_when_a_plan_says_so() -> None:
    (plan,) = plans(evaluation_of(Log(4_000)), width=10.0)
    assert plan.needs[0].condition == "effective sample size"
    assert plan.more_swipes is not None
    needed = 4_000 + plan.more_swipes
    assert needed == pytest.approx(500 * K / 0.2, rel=0.25)
    assert plan.days == pytest.approx(plan.more_swipes / 2_000, rel=0.01)
    early, late = (evaluation_of(Log(int(share * needed), seed=2)) for share in (0.7, 1.4))
    assert [refusal.gate for refusal in early.reports[0].refusals] == ["effective sample size"]
    assert not late.reports[0].refusals


def test_an_interval_is_about_as_wide_as_planned() -> None:
    (plan,) = plans(evaluation_of(Log(60_000)), width=0.05)
    assert plan.needs[0].condition == "width"
    assert plan.more_swipes is not None
    (then,) = evaluation_of(Log(60_000 + plan.more_swipes, seed=3)).reports
    assert then.estimates[0].high - then.estimates[0].low == pytest.approx(0.05, rel=0.15)
    assert plan.width_now is not None
    assert plan.width_now > 0.05


def test_a_question_that_is_answered_needs_nothing_more() -> None:
    (plan,) = plans(evaluation_of(Log(60_000)), width=0.5)
    assert (plan.more_swipes, plan.days, plan.needs) == (0, 0.0, ())
    assert str(plan) == "last: answered, with an interval at most 0.5000 wide"


def test_a_log_without_support_answers_at_no_length() -> None:
    log = Log(4_000)
    log.pmf[:, -1], log.pmf[:, 0] = 0.0, log.pmf[:, 0] + log.pmf[:, -1]
    log.action = np.minimum(log.action, K - 2)
    (plan,) = plans(evaluation_of(log), width=0.1)
    assert plan.more_swipes is None
    assert "support" in plan.never or not plan.never
    assert "no number of swipes" in str(plan) or "could have made" in str(plan)


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_a_width_that_is_none_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width must be above 0"):
        plans(evaluation_of(Log(4_000)), width=width)


def test_without_a_width_it_is_a_tenth_of_the_logged_reward() -> None:
    evaluation = evaluation_of(Log(4_000))
    (plan,) = plans(evaluation)
    assert plan.width == pytest.approx(0.1 * evaluation.logged.value)
    assert msgspec.json.decode(msgspec.json.encode(plan))["decisions"] == 4_000
