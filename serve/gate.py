"""The gate before a trained policy is published: does the held-out log say that it does no harm?

What is judged is the gain, paired decision by decision (`replay.estimators.dr_gain`): what the
candidate would have earned on the held-out pages, less what was earned on them. What it is compared
with are the logged rewards and not an estimate of the current version: the online learner has
learned from these pages, so an estimate would flatter it, while the rewards are what the versions
of that time earned on pages that they did not know.

The gate asks for non-inferiority: the gain's lower bound must lie above `-margin * |logged|`. To
ask for superiority, a margin of 0, would refuse for ever what is as good as what runs: a policy
that was served for weeks is, trained again, equal to itself, and what is equal passes a 95%
interval once in forty times. The margin is the price: so much may be lost, and more only if the
interval errs. Where the mean reward is 0 it is nothing, and superiority is asked for.

An interval is worth what the weights under it are worth, so their health comes first: enough people
(with fewer than about 20, clustered intervals are too narrow: Cameron and Miller, "A Practitioner's
Guide to Cluster-Robust Inference", 2015, section VI), enough effective decisions, no decision that
outweighs the others, and a mean weight of 1, which it has where the log could show all that the
candidate does.

Rejected: an interval of the candidate's value against the log's mean as if that were a constant (it
counts what both share, and leaves out the log's own noise).
"""

from collections.abc import Iterator

import msgspec

from replay.evaluate import Report
from replay.health import Health


class Gate(msgspec.Struct, frozen=True):
    """What a candidate must show on held-out pages.

    Attributes:
        margin: share of the logged reward that may be lost at worst, at least 0.
        min_users: people.
        min_ess: effective decisions.
        max_weight_share: of all weight, the decision with the most of it.
        max_weight_error: of the mean weight, from 1; three standard errors of it, if they are more.
    """

    margin: float = 0.01
    min_users: int = 20
    min_ess: float = 500.0
    max_weight_share: float = 0.05
    max_weight_error: float = 0.1

    def __post_init__(self) -> None:
        if not self.margin >= 0.0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")

    def refusals(self, report: Report) -> tuple[str, ...]:
        """Return why a candidate must not be published, gate by gate; empty: it may."""
        return (*self._unhealthy(report.health), *self._harmful(report))

    def _unhealthy(self, health: Health) -> Iterator[str]:
        if health.n_users < self.min_users:
            yield f"people: expected at least {self.min_users}, got {health.n_users}"
        if health.ess < self.min_ess:
            yield f"effective decisions: expected at least {self.min_ess:.0f}, got {health.ess:.0f}"
        if health.max_weight_share > self.max_weight_share:
            yield (
                f"largest weight: expected at most {self.max_weight_share:.1%} of all, "
                f"got {health.max_weight_share:.1%}"
            )
        allowed = max(self.max_weight_error, 3.0 * health.mean_weight_se)
        if not abs(health.mean_weight - 1.0) <= allowed:
            yield (
                f"support: expected a mean weight within {allowed:.2f} of 1, "
                f"got {health.mean_weight:.2f}"
            )

    def _harmful(self, report: Report) -> Iterator[str]:
        least = -self.margin * abs(report.logged.value)
        if not report.gain.low > least:
            yield (
                f"harm: expected a gain that is surely above {least:.4f}, "
                f"got {report.gain.value:.4f} [{report.gain.low:.4f}, {report.gain.high:.4f}]"
            )
