"""Gates: what a log must show of itself before an estimate from it may be read, set beforehand.

An interval is worth what the weights under it are worth. With few effective decisions, or with one
that outweighs the others, the large weights that would correct an estimate were mostly not drawn
yet: it is off, and its interval too narrow to say so. A mean weight that is not 1 shows a target
that does what the log never could, or propensities that are wrong; the latter also show in how the
logged draws fall (`replay.calibration`). Arms that are not as large as they were meant to be show
that people went missing on one side. With fewer than about 20 people, clustered intervals are too
narrow (Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", 2015, section VI).

Rewards that hardly ever differ say little too, whatever the weights: an interval is made of what
varied, and where nothing did it has no width, so that a log without a like would be sure of 0. They
are counted as they came: whether a few weights outshine the others has gates of its own, and an
effective number would refuse with its weights what the tuned default still answers by its model.

So where a gate fails there is no number. The gates are the same for everybody and were set before
any estimate was seen; whoever forces one gets it marked.

Rejected: a warning beside the number (it is the number that is copied), and limits by estimator
(one would go looking for the estimator that passes).
"""

from collections.abc import Iterator

import msgspec

from replay.health import Health, LogHealth, Weights

OF_LOG = frozenset(
    {"calibration of propensities", "logged propensities", "sample ratio of the arms"}
)
"""The gates that a log passes or not whatever the target, and whatever part of it is asked."""

MAX_PROPENSITY_ERROR = 1e-4
"""Relative: scores that were computed in another order or precision are off by less."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a log may not be asked.

    Attributes:
        gate: that it did not pass.
        expected: what the gate asks for.
        got: what came.
        advice: what to do.
    """

    gate: str
    expected: str
    got: str
    advice: str

    def __str__(self) -> str:
        """Say it in one line, without the advice."""
        return f"{self.gate}: expected {self.expected}, got {self.got}"


class Gates(msgspec.Struct, frozen=True):
    """The limits.

    Attributes:
        min_users: people.
        min_ess: effective decisions.
        max_weight_share: of all weight, the decision with the most of it.
        max_weight_error: of the mean weight, from 1; three standard errors of it, if they are more.
        min_rewards: decisions that the target could have made whose reward is not the commonest.
        max_unsupported: of the target's probability, what the log gave no chance at all.
        min_p: of the tests of the propensities and of the arms' sizes: so often chance alone
            closes a gate that should be open.
    """

    min_users: int = 20
    min_ess: float = 500.0
    max_weight_share: float = 0.05
    max_weight_error: float = 0.1
    min_rewards: int = 20
    max_unsupported: float = 0.01
    min_p: float = 1e-4

    def refusals(self, health: Health) -> tuple[Refusal, ...]:
        """Return the gates that a log does not pass for a target; empty: estimates may be read."""
        of_part = self.weight_refusals(health, health.unsupported_share)
        return (*of_part, *self._of_log(health.log))

    def weight_refusals(
        self, weights: Weights, unsupported_share: float | None = None
    ) -> tuple[Refusal, ...]:
        """Return the gates that a part of a log does not pass, whatever the whole log does.

        Args:
            weights: of the part's decisions.
            unsupported_share: of the target's probability at them, what the log gave no chance;
                None: the log's distributions are not known.
        """
        return (*self._of_weights(weights), *self._of_support(unsupported_share))

    def _of_weights(self, weights: Weights) -> Iterator[Refusal]:
        if weights.n_users < self.min_users:
            yield Refusal(
                "people",
                f"at least {self.min_users}",
                f"{weights.n_users:,}",
                "take a log of more people: an interval counts them, not their decisions",
            )
        if weights.ess < self.min_ess:
            yield Refusal(
                "effective sample size",
                f"at least {self.min_ess:,.0f} decisions",
                f"{weights.ess:,.0f} of {weights.n:,}",
                "take a longer log or a target closer to what made it, or give it some traffic",
            )
        if weights.max_weight_share > self.max_weight_share:
            yield Refusal(
                "largest weight",
                f"at most {self.max_weight_share:.1%} of all weight on one decision",
                f"{weights.max_weight_share:.1%} (a weight of {weights.max_weight:,.1f})",
                "take a longer log, or log with a higher floor (feed.eps)",
            )
        if weights.n_rewards < self.min_rewards:
            yield Refusal(
                "rewards",
                f"at least {self.min_rewards} decisions with another reward than the commonest",
                f"{weights.n_rewards:,}",
                "take a longer log: what hardly ever happened in it has no rate yet",
            )
        allowed = max(self.max_weight_error, 3.0 * weights.mean_weight_se)
        if not abs(weights.mean_weight - 1.0) <= allowed:
            yield Refusal(
                "mean weight",
                f"within {allowed:.2f} of 1",
                f"{weights.mean_weight:.2f}",
                "below 1 the target does what the log could not show: log with a floor; above 1 "
                "the logged propensities are too small: run nextswipe log verify",
            )

    def _of_support(self, share: float | None) -> Iterator[Refusal]:
        if share is not None and share > self.max_unsupported:
            yield Refusal(
                "support",
                f"at most {self.max_unsupported:.0%} of the target where the log gave no chance",
                f"{share:.1%}",
                "log with a floor (feed.eps), or evaluate a target that has the same one",
            )

    def _of_log(self, health: LogHealth) -> Iterator[Refusal]:
        calibration, arms = health.calibration, health.arms
        if calibration is not None and calibration.p_value < self.min_p:
            yield Refusal(
                "calibration of propensities",
                f"a chi-square test with p of at least {self.min_p:g}",
                f"p = {calibration.p_value:.1e} over {calibration.n:,} draws",
                "the logged propensities are not those that the cards were drawn with: look for "
                "what changes a page after the draw",
            )
        if calibration is not None and not calibration.max_error <= MAX_PROPENSITY_ERROR:
            yield Refusal(
                "logged propensities",
                f"those of the policy that drew, within {MAX_PROPENSITY_ERROR:g}",
                f"{calibration.max_error:.1e} off",
                "run nextswipe log verify, which names the decisions",
            )
        if arms is not None and arms.p_value < self.min_p:
            people = ", ".join(f"{name} {n:,}" for name, n in arms.people.items())
            yield Refusal(
                "sample ratio of the arms",
                f"people as the arms' shares say, p of at least {self.min_p:g}",
                f"{people} (p = {arms.p_value:.1e})",
                "find out who is missing: an arm that fails more often, or shares that changed",
            )
