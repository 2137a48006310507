"""Plans: how many more decisions a log needs before it answers a question, and how long they take.

Weights keep their distribution while a log grows, so effective decisions grow with its decisions,
the largest share of the weight falls with them, and an interval narrows with their root. A log that
gives a target no chance answers it at no length. Derivation: `docs/decisions/evaluation-plans.md`.
"""

from collections.abc import Iterator

import msgspec

from replay.evaluate.evaluate import Evaluation, PolicyReport
from replay.evaluate.gates import OF_LOG, Gates

WIDTH = 0.1
"""Width of the interval that is planned for by default, over the logged reward."""


class Need(msgspec.Struct, frozen=True):
    """The decisions that one condition needs in all."""

    condition: str  # a gate, or "width"
    decisions: int


class Plan(msgspec.Struct, frozen=True):
    """What it takes to answer a question.

    Attributes:
        policy: the target.
        width: of the interval that is planned for.
        width_now: of dr's interval on the log as it is; None: target and log never agree.
        decisions: of the log as it is, that can be evaluated.
        needs: one for each condition that is not met yet, the most demanding first.
        never: gates that no number of decisions passes.
        more_swipes: cards that are still to be seen; 0: it is answered, None: no number is known.
        per_day: decisions a day, at the rate of the log's last 24 hours.
        days: until then at that rate; None: not known.
    """

    policy: str
    width: float
    width_now: float | None
    decisions: int
    needs: tuple[Need, ...]
    never: tuple[str, ...]
    more_swipes: int | None
    per_day: float
    days: float | None

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.never:
            gates = ", ".join(self.never)
            return f"{self.policy}: no number of swipes answers this: {gates}"
        if self.more_swipes is None:
            return (
                f"{self.policy}: not known, as the log has no decision with a reward that counts "
                "which this policy could have made"
            )
        if not self.more_swipes:
            return f"{self.policy}: answered, with an interval at most {self.width:.4f} wide"
        why = self.needs[0]
        took = "" if self.days is None else f", {_duration(self.days)} at today's traffic"
        return (
            f"{self.policy}: {self.more_swipes:,} more swipes{took}, for an interval "
            f"{self.width:.4f} wide ({why.condition} needs {why.decisions:,} decisions, the log "
            f"has {self.decisions:,})"
        )


def plans(evaluation: Evaluation, width: float | None = None) -> tuple[Plan, ...]:
    """Return a plan for each policy of an evaluation that was forced.

    Args:
        evaluation: with estimates also where gates fail.
        width: of the interval, above 0; None: `WIDTH` of the logged reward.

    Raises:
        ValueError: the width is not above 0, or the logged reward of 0 suggests none.
    """
    if width is None:
        width = WIDTH * abs(evaluation.logged.value)
    if not width > 0.0:
        raise ValueError(f"width must be above 0, got {width}: give one with --width")
    return tuple(_plan(report, width) for report in evaluation.reports)


def _plan(report: PolicyReport, width: float) -> Plan:
    health, gates = report.health, Gates()
    of_log = health.log
    met = {"effective sample size", "largest weight", "users", "rewards", "mean weight"}
    never = tuple(r.gate for r in report.refusals if r.gate in OF_LOG or r.gate not in met)
    estimate = report.estimates[0] if report.estimates else None
    width_now = None if estimate is None else estimate.high - estimate.low
    needs = sorted(_needs(report, gates, width, width_now), key=lambda need: -need.decisions)
    is_known = estimate is not None and (health.n_rewards > 0 or not report.refusals)
    ended_share = max(1.0 - of_log.censored_share, 1.0 / max(health.n, 1))
    more: int | None = None
    if is_known and not never:
        needed = max((need.decisions for need in needs), default=health.n)
        more = round(max(needed - health.n, 0) / ended_share)
    days = None
    if more is not None and of_log.per_day:
        days = more * ended_share / of_log.per_day
    return Plan(
        policy=report.policy,
        width=width,
        width_now=width_now,
        decisions=health.n,
        needs=tuple(needs),
        never=never,
        more_swipes=more,
        per_day=of_log.per_day,
        days=days,
    )


def _needs(
    report: PolicyReport, gates: Gates, width: float, width_now: float | None
) -> Iterator[Need]:
    health = report.health
    allowed = max(gates.max_weight_error, 3.0 * health.mean_weight_se)
    ratios = {
        "effective sample size": _over(gates.min_ess, health.ess),
        "largest weight": health.max_weight_share / gates.max_weight_share,
        "users": _over(gates.min_users, health.n_users),
        "rewards": _over(gates.min_rewards, health.n_rewards),
        # Where the target has support, the mean weight is off by noise, which falls with the root.
        "mean weight": (abs(health.mean_weight - 1.0) / allowed) ** 2,
        "width": 0.0 if width_now is None else (width_now / width) ** 2,
    }
    for condition, ratio in ratios.items():
        if 1.0 < ratio < float("inf"):
            yield Need(condition, round(health.n * ratio))


def _over(needed: float, there: float) -> float:
    return needed / there if there else float("inf")


def _duration(days: float) -> str:
    """Return a time in the unit that reads best.

    >>> _duration(0.01), _duration(0.5), _duration(40.0)
    ('14 minutes', '12.0 hours', '40 days')
    """
    if days < 1.0 / 24:
        return f"{max(days * 1440, 1.0):.0f} minutes"
    return f"{days * 24:.1f} hours" if days < 2.0 else f"{days:,.0f} days"
