"""The publication gate: a test of non-inferiority of a trained policy on held-out pages.

The lower bound of the gain must lie above `-margin * |logged|`, and the held-out log must pass the
health gates of every evaluation. Derivation and rejected alternatives:
`docs/decisions/serve-publication-gate.md`.
"""

from collections.abc import Iterator

import msgspec

from replay.evaluate.evaluate import PolicyReport
from replay.evaluate.gates import Gates


class Gate(msgspec.Struct, frozen=True):
    """The conditions that a candidate must meet on held-out pages."""

    margin: float = 0.01  # largest share of the logged reward that may be lost, at least 0
    gates: Gates = Gates()  # health gates for the held-out log

    def __post_init__(self) -> None:
        if not self.margin >= 0.0:
            raise ValueError(f"margin must be at least 0, got {self.margin}")

    def refusals(self, report: PolicyReport) -> tuple[str, ...]:
        """Return the reasons not to publish a candidate; empty if it may be published.

        Args:
            report: a forced evaluation, so that the gain is there even if the log is unhealthy.
        """
        unhealthy = (str(refusal) for refusal in self.gates.refusals(report.health))
        return (*unhealthy, *self._harmful(report))

    def _harmful(self, report: PolicyReport) -> Iterator[str]:
        least = -self.margin * abs(report.logged.value)
        gain = report.gain
        if gain is None:
            yield f"harm: expected a gain that is surely above {least:.4f}, got none to judge by"
        elif not gain.low > least:
            yield (
                f"harm: expected a gain that is surely above {least:.4f}, "
                f"got {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}]"
            )
