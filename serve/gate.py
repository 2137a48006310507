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

An interval is worth what the log under it is worth, so that comes first, by the gates that every
evaluation has (`replay.gates`).

Rejected: an interval of the candidate's value against the log's mean as if that were a constant (it
counts what both share, and leaves out the log's own noise).
"""

from collections.abc import Iterator

import msgspec

from replay.evaluate import Report
from replay.gates import Gates


class Gate(msgspec.Struct, frozen=True):
    """What a candidate must show on held-out pages.

    Attributes:
        margin: share of the logged reward that may be lost at worst, at least 0.
        gates: that the held-out log must pass.
    """

    margin: float = 0.01
    gates: Gates = Gates()

    def __post_init__(self) -> None:
        if not self.margin >= 0.0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")

    def refusals(self, report: Report) -> tuple[str, ...]:
        """Return why a candidate must not be published, gate by gate; empty: it may.

        Args:
            report: forced, so that the gain is there to be judged whatever else is wrong.
        """
        unhealthy = (str(refusal) for refusal in self.gates.refusals(report.health))
        return (*unhealthy, *self._harmful(report))

    def _harmful(self, report: Report) -> Iterator[str]:
        least = -self.margin * abs(report.logged.value)
        gain = report.gain
        if gain is None:
            yield f"harm: expected a gain that is surely above {least:.4f}, got none to judge by"
        elif not gain.low > least:
            yield (
                f"harm: expected a gain that is surely above {least:.4f}, "
                f"got {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}]"
            )
