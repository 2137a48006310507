"""What an evaluation prints: a table of policies, the estimators of one, and what was refused."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from replay.evaluate import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replay.evaluate import Evaluation
    from replay.importance import FeatureImportance, Importance
    from replay.intervals import Estimate
    from replay.parts import Part

N_FEATURES = 12
"""Features that are printed; the report and JSON have all."""


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print what a log says about policies."""
    console = Console(highlight=False)
    console.print(_policies(evaluation))
    for report in evaluation.reports:
        if report.refusals:
            _print_refusals(console, report)
        if report.estimates and len(evaluation.reports) == 1:
            console.print(_estimators(report))
        if report.parts:
            console.print(_parts(report))
        _print_health(console, report)


def print_importance(found: "Importance") -> None:
    """Print which features matter."""
    console = Console(highlight=False)
    console.print(
        _features("growth of the squared error, in variances of the reward", found.reward)
    )
    for policy, features in found.policies.items():
        console.print(_features(f"by how much the first card of {policy} moves", features))


def _policies(evaluation: "Evaluation") -> Table:
    made_by = ", ".join(evaluation.reports[0].logged_policies[:3])
    of_whom = f" on the log of {made_by}" if made_by else ""
    table = _table(
        f"by {evaluation.default}{of_whom}",
        (
            "policy",
            "reward a card",
            _interval_title(evaluation.level),
            "gain over logged",
            "effective n",
        ),
    )
    logged = evaluation.logged
    table.add_row("logged", f"{logged.value:.4f}", _interval(logged), "", f"{logged.n:,}")
    for report in evaluation.reports:
        table.add_row(*_row(report))
    return table


def _row(report: Report) -> tuple[str, ...]:
    ess = f"{report.health.ess:,.0f}"
    if not report.estimates:
        return (report.policy, "refused", "", _gain(report), ess)
    first, mark = report.estimates[0], " (forced)" if report.forced else ""
    return (report.policy, f"{first.value:.4f}{mark}", _interval(first), _gain(report), ess)


def _gain(found: "Report | Part") -> str:
    """Return the gain with its interval, or the gates that forbid one."""
    gain = found.gain
    if gain is None:
        return ", ".join(refusal.gate for refusal in found.refusals)
    mark = " (forced)" if found.forced else ""
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]{mark}"


def _estimators(report: "Report") -> Table:
    title = f"all estimators of {report.policy}{', forced' if report.forced else ''}"
    columns = ("", "reward a card", _interval_title(report.logged.level), "effective n")
    table = _table(title, columns)
    for estimate in (report.logged, *report.estimates):
        value, ess = f"{estimate.value:.4f}", f"{estimate.ess:,.0f}"
        table.add_row(estimate.estimator, value, _interval(estimate), ess)
    return table


def _parts(report: "Report") -> Table:
    columns = ("", "decisions", "gain over logged", "effective n")
    table = _table(f"{report.policy} by part of the log", columns)
    for part in report.parts:
        ess = "" if part.weights is None else f"{part.weights.ess:,.0f}"
        table.add_row(f"{part.segment} {part.value}", f"{part.n:,}", _gain(part), ess)
    return table


def _features(title: str, features: "Sequence[FeatureImportance]") -> Table:
    table = _table(title, ("feature", "of", "importance", "95% interval"))
    for feature in features[:N_FEATURES]:
        interval = f"{feature.low:.4f} to {feature.high:.4f}"
        table.add_row(feature.feature, feature.of, f"{feature.value:.4f}", interval)
    return table


def _print_refusals(console: Console, report: "Report") -> None:
    said = "forced, do not rely on it" if report.forced else "refused"
    console.print(f"{report.policy}: {said}")
    for refusal in report.refusals:
        console.print(f"  {refusal}\n    {refusal.advice}", soft_wrap=True)


def _print_health(console: Console, report: "Report") -> None:
    health, log = report.health, report.health.log
    judged = log.calibration
    calibration = (
        "propensities not judged"
        if judged is None
        else f"propensities p = {judged.p_value:.2g} by {judged.method}"
    )
    arms = "" if log.arms is None else f", arms p = {log.arms.p_value:.2g}"
    drift = "" if health.drift is None else f", drift p = {health.drift.p_value:.2g}"
    if report.learned_share:
        console.print(
            f"{report.policy} learned from {report.learned_share:.0%} of these decisions, which "
            "flatters it; evaluate it with --held-out",
            soft_wrap=True,
        )
    console.print(
        f"{report.policy}: {health.n:,} decisions of {health.n_users:,} people; mean weight "
        f"{health.mean_weight:.3f} ± {health.mean_weight_se:.3f}, largest share of the weight "
        f"{health.max_weight_share:.1%}, smallest propensity {health.min_propensity:.2g}, seen "
        f"{log.seen_share:.1%}, censored {log.censored_share:.1%}, {calibration}{arms}{drift}",
        soft_wrap=True,
    )


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _interval_title(level: float) -> str:
    return f"{level:.1%} interval".replace(".0%", "%")


def _interval(estimate: "Estimate") -> str:
    return f"{estimate.low:.4f} to {estimate.high:.4f}"
