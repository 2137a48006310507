"""Gates: fixed conditions that a log must meet before an estimate from it is shown.

Each limit was set before any estimate was seen and is the same for every policy. If a gate fails
there is no number; a forced estimate is marked. Reasons for each gate and rejected alternatives:
`docs/decisions/evaluation-gates.md`.
"""

from collections.abc import Iterator

import msgspec

from replay.evaluate.health import EvaluationHealth, LogHealth, WeightDiagnostics

OF_LOG = frozenset(
    {"calibration of propensities", "logged propensities", "sample ratio of the arms"}
)
"""The gates that concern the whole log, whatever the target or the segment."""

MAX_PROPENSITY_ERROR = 1e-4
"""Relative tolerance; scores computed in another order or precision differ by less."""


class GateFailure(msgspec.Struct, frozen=True):
    """A gate that a log failed."""

    gate: str  # name of the gate
    expected: str  # condition of the gate
    got: str  # the log's figure
    advice: str  # suggested remedy

    def __str__(self) -> str:
        """Return one line, without the advice."""
        return f"{self.gate}: expected {self.expected}, got {self.got}"


class Gates(msgspec.Struct, frozen=True):
    """The limits.

    A target's support is its probability on candidates that the log gave a chance. A reward counts
    if it is not the most common one and the target could have made the decision. `min_p` is also
    the chance that a gate closes wrongly.
    """

    min_users: int = 20  # users
    min_ess: float = 500.0  # effective decisions
    max_weight_share: float = 0.05  # of all weight on one decision
    max_weight_error: float = 0.1  # of the mean weight from 1, or three standard errors
    min_rewards: int = 20  # decisions with a reward that counts
    max_unsupported: float = 0.01  # share of the target without support
    min_p: float = 1e-4  # of the tests of propensities and arm sizes

    def refusals(self, health: EvaluationHealth) -> tuple[GateFailure, ...]:
        """Return the gates that a log fails for a target; if empty, estimates may be read."""
        of_part = self.weight_refusals(health, health.unsupported_share)
        return (*of_part, *self._of_log(health.log))

    def weight_refusals(
        self, weights: WeightDiagnostics, unsupported_share: float | None = None
    ) -> tuple[GateFailure, ...]:
        """Return the gates that a segment of a log fails on its own.

        Args:
            weights: of the segment's decisions.
            unsupported_share: share of the target's probability there on candidates that the log
                gave no chance; None if the log's distributions are unknown.
        """
        return (*self._of_weights(weights), *self._of_support(unsupported_share))

    def _of_weights(self, weights: WeightDiagnostics) -> Iterator[GateFailure]:
        if weights.n_users < self.min_users:
            yield GateFailure(
                "users",
                f"at least {self.min_users}",
                f"{weights.n_users:,}",
                "take a log of more users: an interval counts them, not their decisions",
            )
        if weights.ess < self.min_ess:
            yield GateFailure(
                "effective sample size",
                f"at least {self.min_ess:,.0f} decisions",
                f"{weights.ess:,.0f} of {weights.n:,}",
                "take a longer log or a target closer to what made it, or give it some traffic",
            )
        if weights.max_weight_share > self.max_weight_share:
            yield GateFailure(
                "largest weight",
                f"at most {self.max_weight_share:.1%} of all weight on one decision",
                f"{weights.max_weight_share:.1%} (a weight of {weights.max_weight:,.1f})",
                "take a longer log, or log with a higher floor (feed.eps)",
            )
        if weights.n_rewards < self.min_rewards:
            yield GateFailure(
                "rewards",
                f"at least {self.min_rewards} decisions with another reward than the commonest",
                f"{weights.n_rewards:,}",
                "take a longer log: what hardly ever happened in it has no rate yet",
            )
        allowed = max(self.max_weight_error, 3.0 * weights.mean_weight_se)
        if not abs(weights.mean_weight - 1.0) <= allowed:
            yield GateFailure(
                "mean weight",
                f"within {allowed:.2f} of 1",
                f"{weights.mean_weight:.2f}",
                "below 1 the target does what the log could not show: log with a floor; above 1 "
                "the logged propensities are too small: run nextswipe log verify",
            )

    def _of_support(self, share: float | None) -> Iterator[GateFailure]:
        if share is not None and share > self.max_unsupported:
            yield GateFailure(
                "support",
                f"at most {self.max_unsupported:.0%} of the target where the log gave no chance",
                f"{share:.1%}",
                "log with a floor (feed.eps), or evaluate a target that has the same one",
            )

    def _of_log(self, health: LogHealth) -> Iterator[GateFailure]:
        calibration, arms = health.calibration, health.arms
        if calibration is not None and calibration.p_value < self.min_p:
            yield GateFailure(
                "calibration of propensities",
                f"a chi-square test with p of at least {self.min_p:g}",
                f"p = {calibration.p_value:.1e} over {calibration.n:,} draws",
                "the logged propensities are not those that the cards were drawn with: look for "
                "what changes a page after the draw",
            )
        if calibration is not None and not calibration.max_error <= MAX_PROPENSITY_ERROR:
            yield GateFailure(
                "logged propensities",
                f"those of the policy that drew, within {MAX_PROPENSITY_ERROR:g}",
                f"{calibration.max_error:.1e} off",
                "run nextswipe log verify, which names the decisions",
            )
        if arms is not None and arms.p_value < self.min_p:
            users = ", ".join(f"{name} {n:,}" for name, n in arms.users.items())
            yield GateFailure(
                "sample ratio of the arms",
                f"users as the arms' shares say, p of at least {self.min_p:g}",
                f"{users} (p = {arms.p_value:.1e})",
                "find out who is missing: an arm that fails more often, or shares that changed",
            )
