"""Evaluations on the terminal: the tables and sentences that `nextswipe evaluate` prints."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.estimators.intervals import Estimate
from replay.evaluate.evaluate import Evaluation, PolicyReport
from replay.evaluate.importance import FeatureImportance, Importance
from replay.evaluate.segments import SegmentReport
from replay.evaluate.wholes import Unit, WholeValue
from replay.report.words import flattery, users_words

N_FEATURES = 12
"""Features printed; the report and JSON hold all."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation."""
    console = Console(highlight=False)
    _print_values(console, evaluation)
    for report in evaluation.reports:
        if report.refusals:
            _print_refusals(console, report)
        is_own = any(":" in estimate.estimator for estimate in report.estimates)
        if report.estimates and (is_own or len(evaluation.reports) == 1):
            console.print(_estimators(report))
        if report.parts:
            console.print(_parts(report))
        _print_health(console, report)
    for segment, n in evaluation.hidden_values.items():
        print_text(console, f"{n:,} values of {segment} with few decisions are not shown")
    if evaluation.importance is not None:
        _print_importance(console, evaluation.importance)


def _print_values(console: Console, evaluation: Evaluation) -> None:
    """Print the values of cards, pages and sessions, those first that lead."""
    tables = [_policies(evaluation)]
    if any(report.page_value is not None for report in evaluation.reports):
        leads = any(report.leads_with == "page" for report in evaluation.reports)
        tables.insert(0 if leads else 1, _wholes(evaluation, "page"))
        tables.append(_wholes(evaluation, "session"))
    for table in tables:
        console.print(table)


def _print_importance(console: Console, found: Importance) -> None:
    console.print(
        _features("growth of the squared error, in variances of the reward", found.reward)
    )
    for policy, features in found.policies.items():
        console.print(_features(f"by how much the first card of {policy} moves", features))


def _policies(evaluation: Evaluation) -> Table:
    made_by = ", ".join(evaluation.reports[0].logged_policies[:3])
    of_whom = f" on the log of {made_by}" if made_by else ""
    table = _table(
        f"by {evaluation.default}{of_whom}",
        (
            "policy",
            "reward a card",
            _interval_title(evaluation.level),
            "gain over logged (dr)",
            "effective n",
        ),
    )
    logged = evaluation.logged
    _add_row(table, "logged", f"{logged.value:.4f}", _interval(logged), "", f"{logged.n:,}")
    for report in evaluation.reports:
        _add_row(table, *_row(report))
    return table


def _wholes(evaluation: Evaluation, unit: Unit) -> Table:
    """Return the values of whole pages, or of whole sessions."""
    columns = (
        "policy",
        f"reward a {unit}",
        _interval_title(evaluation.level),
        f"effective {unit}s",
    )
    table = _table(f"whole {unit}s, as the policy itself would fill them", columns)
    for place, report in enumerate(evaluation.reports):
        found = report.page_value if unit == "page" else report.session_value
        if found is None:
            continue
        if not place:
            logged = found.logged
            _add_row(table, "logged", f"{logged.value:.3f}", _interval(logged), f"{found.n:,}")
        _add_row(table, report.policy, *_whole(found))
    return table


def _whole(found: WholeValue) -> tuple[str, str, str]:
    """Return value, interval and effective number; or the failed gates."""
    ess = f"{found.ess:,.0f}"
    if found.value is None:
        return "refused", ", ".join(refusal.gate for refusal in found.refusals), ess
    mark = " (forced)" if found.forced else ""
    return f"{found.value:.3f}{mark}", f"{found.low:.3f} to {found.high:.3f}", ess


def _row(report: PolicyReport) -> tuple[str, ...]:
    ess = f"{report.health.ess:,.0f}"
    if not report.estimates:
        return (report.policy, "refused", "", _gain(report), ess)
    first, mark = report.estimates[0], " (forced)" if report.forced else ""
    return (report.policy, f"{first.value:.4f}{mark}", _interval(first), _gain(report), ess)


def _gain(found: PolicyReport | SegmentReport) -> str:
    """Return the gain with its interval, or the failed gates."""
    gain = found.gain
    if gain is None:
        return ", ".join(refusal.gate for refusal in found.refusals)
    mark = " (forced)" if found.forced else ""
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]{mark}"


def _estimators(report: PolicyReport) -> Table:
    title = f"all estimators of {report.policy}{', forced' if report.forced else ''}"
    columns = ("", "reward a card", _interval_title(report.logged.level), "effective n")
    table = _table(title, columns)
    for estimate in (report.logged, *report.estimates):
        value, ess = f"{estimate.value:.4f}", f"{estimate.ess:,.0f}"
        _add_row(table, estimate.estimator, value, _interval(estimate), ess)
    return table


def _parts(report: PolicyReport) -> Table:
    columns = ("", "decisions", "gain over logged (dr)", "effective n")
    table = _table(f"{report.policy} by part of the log", columns)
    for part in report.parts:
        ess = "" if part.weights is None else f"{part.weights.ess:,.0f}"
        _add_row(table, f"{part.segment} {part.value}", f"{part.n:,}", _gain(part), ess)
    return table


def _features(title: str, features: Sequence[FeatureImportance]) -> Table:
    table = _table(title, ("feature", "of", "importance", "95% interval"))
    for feature in features[:N_FEATURES]:
        interval = f"{feature.low:.4f} to {feature.high:.4f}"
        _add_row(table, feature.feature, feature.of, f"{feature.value:.4f}", interval)
    return table


def _print_refusals(console: Console, report: PolicyReport) -> None:
    said = "forced, do not rely on it" if report.forced else "refused"
    print_text(console, f"{report.policy}: {said}")
    for refusal in report.refusals:
        print_text(console, f"  {refusal}\n    {refusal.advice}")


def _print_health(console: Console, report: PolicyReport) -> None:
    health, log = report.health, report.health.log
    judged = log.calibration
    calibration = (
        "propensities not judged"
        if judged is None
        else f"propensities p = {judged.p_value:.2g} by {judged.method}"
    )
    arms = "" if log.arms is None else f", arms p = {log.arms.p_value:.2g}"
    dangling = f", {log.n_dangling:,} outcomes without a decision" if log.n_dangling else ""
    drift = "" if health.drift is None else f", drift p = {health.drift.p_value:.2g}"
    if report.learned_share:
        print_text(
            console,
            f"{report.policy} learned from {report.learned_share:.0%} of these decisions, which "
            "flatters it; evaluate it with --held-out",
        )
    if report.left_out_folds:
        print_text(
            console,
            f"{report.policy}: learned from these users; each was judged by what it would be "
            f"without them and others ({report.left_out_folds} folds of the log)",
        )
    if report.card_flatters:
        print_text(console, f"{report.policy}: {flattery(report)}")
    print_text(
        console,
        f"{report.policy}: {health.n:,} decisions of {users_words(health.n_users, log)}; mean "
        f"weight {health.mean_weight:.3f} ± {health.mean_weight_se:.3f}, largest share of the "
        f"weight {health.max_weight_share:.1%}, smallest propensity {health.min_propensity:.2g}, "
        f"effective rewards {health.effective_rewards:,.1f} of {health.n_rewards:,}, seen "
        f"{log.seen_share:.1%}, censored {log.censored_share:.1%}{dangling}, "
        f"{calibration}{arms}{drift}",
    )


def print_text(console: Console, text: str) -> None:
    """Print text without markup: names of policies and segments may contain brackets."""
    console.print(text, markup=False, soft_wrap=True)


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(escape, cells))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=escape(title))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _interval_title(level: float) -> str:
    return f"{level:.1%} interval".replace(".0%", "%")


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f} to {estimate.high:.4f}"
