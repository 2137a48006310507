"""The command `nextswipe evaluate`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.estimators.intervals import Estimate
from replay.evaluate.evaluate import Evaluation, PolicyReport
from replay.evaluate.importance import FeatureImportance, Importance
from replay.evaluate.segments import SegmentReport
from replay.report.words import users_words
from serve.commands.settings import AsJson, ConfigFile, DataFolder, bar, load_settings, print_json
from serve.errors import JobError

Word = TypeVar("Word", bound=str)


def evaluate_obd(
    folder: Path,
    campaign: str,
    behaviour: str,
    target: str,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Evaluate one policy of the dataset on the log of the other, and print the report.

    Raises:
        Refused: there is no such campaign, policy or log.
        BadFile: a file of the dataset is invalid.
    """
    from serve.importers.obd import BEHAVIOURS, CAMPAIGNS
    from serve.jobs import open_bandit as obd

    asked = (
        _one_of(CAMPAIGNS, campaign, "--campaign"),
        _one_of(BEHAVIOURS, behaviour, "--behaviour"),
        _one_of(BEHAVIOURS, target, "--target"),
    )
    with bar("evaluating", obd.count_settings(folder)) as advance:
        report = obd.evaluate_obd(folder, *asked, force=force, advance=advance)
    if as_json:
        print_json(report)
    else:
        obd.print_report(report)


def _one_of(allowed: tuple[Word, ...], word: str, option: str) -> Word:
    for each in allowed:
        if each == word:
            return each
    raise JobError(f"{option}: expected one of {', '.join(allowed)}, got {word!r}")


EPILOG = "Example: nextswipe evaluate uniform popularity --segment country --report report.html"
_OF_OBD_ALONE = frozenset({"campaign", "behaviour", "target"})
_OF_OBD = _OF_OBD_ALONE | {"obd", "force", "as_json", "config", "data"}
"""Parameters that are allowed with --obd."""

_OF_OURS = frozenset({"arm", "held_out"})
"""Parameters that are allowed with our own log only."""


def register(app: typer.Typer) -> None:
    """Add the command `evaluate`."""
    app.command(epilog=EPILOG)(evaluate)


def evaluate(
    context: typer.Context,
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            help="uniform, popularity, mixture (as configured), vowpal (the current version), "
            "vowpal@N, retention (the current ranker alone), retention@N, blend (the current "
            "ranker and vowpal, blended as configured), blend@N, or MODULE:FUNCTION that returns "
            "your own policy; several at once share one pass over the log.",
            show_default="vowpal",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="External log: .dsjson, or obp's fields as .csv or .parquet; its policies are "
            "first (the baseline), behaviour, uniform and MODULE:FUNCTION.",
        ),
    ] = None,
    obd: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Reproduce the published figures of the Open Bandit Dataset."
        ),
    ] = None,
    campaign: Annotated[str, typer.Option(help="Campaign of --obd: all, men or women.")] = "all",
    behaviour: Annotated[str, typer.Option(help="Log of --obd: random or bts.")] = "random",
    target: Annotated[str, typer.Option(help="Target policy of --obd: bts or random.")] = "bts",
    arm: Annotated[str, typer.Option(help="Read only the pages of this arm.")] = "",
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out", help="Read only pages from which none of the policies has learned."
        ),
    ] = False,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            help="Also answer by country, cohort, 'new users', slot or hour; may be repeated."
        ),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:FUNCTION", help="Also estimate by one of your own; may be repeated."
        ),
    ] = None,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")
    ] = 0.95,
    reward_model: Annotated[
        Literal["ridge", "vowpal"],
        typer.Option(help="Reward model of dm and the doubly robust estimators."),
    ] = "ridge",
    force: Annotated[
        bool, typer.Option("--force", help="Estimate even where gates fail, and mark it.")
    ] = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Also measure feature importance, by permutation.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Estimate from the log what other policies would have earned, and with what certainty.

    Where the log cannot answer, the failed gate and a remedy are printed instead of a number. A
    version evaluated on pages that it learned from looks better than it is: evaluate an older one
    with --held-out, or stop its learning.
    """
    _refuse_ignored(context, obd, log)
    if obd is not None:
        evaluate_obd(obd, campaign, behaviour, target, force=force, as_json=as_json)
        return
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise JobError(f"--report: expected a file in a folder that is there, got {report}")
    names = policies or ["vowpal" if log is None else "uniform"]
    settings = load_settings(config, data)
    from serve.jobs.evaluate import (
        find_estimator,
        open_external_evaluation,
        open_question,
        reward_fit,
    )
    from serve.store.data_folder import count_lines

    own = [find_estimator(settings, name) for name in estimator or ()]

    with ExitStack() as stack:
        if log is not None:
            question = stack.enter_context(open_external_evaluation(log, names))
        else:
            with bar("reading", count_lines(settings)) as advance:
                question = stack.enter_context(
                    open_question(settings, names, arm=arm, held_out=held_out, advance=advance)
                )
        with bar("evaluating", 2 * question.n_decisions) as advance:
            evaluation = question.answer(
                fit=reward_fit(settings, reward_model),
                segments=segment or (),
                level=level,
                force=force,
                estimators=own,
                advance=advance,
            )
        try:
            found = question.importance() if importance else None
        except JobError as refused:
            _write(evaluation, report, as_json)  # importance is on top of what was asked
            raise refused from None
    _write(msgspec.structs.replace(evaluation, importance=found), report, as_json)


def _write(evaluation: Evaluation, report: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(evaluation)
    else:
        print_evaluation(evaluation)
    if report is not None:
        from replay.report.html import report_html

        report.write_text(report_html(evaluation), encoding="utf-8")


def _refuse_ignored(context: typer.Context, obd: Path | None, log: Path | None) -> None:
    given = {
        str(parameter.name): parameter
        for parameter in context.command.params
        if _is_given(context, str(parameter.name))
    }
    if obd is not None:
        asked, ignored = "--obd", given.keys() - _OF_OBD
    elif log is not None:
        asked, ignored = "--log", given.keys() & (_OF_OBD_ALONE | _OF_OURS)
    else:
        asked, ignored = "our own log", given.keys() & _OF_OBD_ALONE
    if ignored:
        names = [
            parameter.opts[0] if parameter.param_type_name == "option" else "POLICIES"
            for name, parameter in given.items()
            if name in ignored
        ]
        raise JobError(f"{', '.join(names)}: not looked at with {asked}; leave it out")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


N_FEATURES = 12
"""Features printed; the report and JSON hold all."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation."""
    console = Console(highlight=False)
    console.print(_policies(evaluation))
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
        _print_text(console, f"{n:,} values of {segment} with few decisions are not shown")
    if evaluation.importance is not None:
        _print_importance(console, evaluation.importance)


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
    _print_text(console, f"{report.policy}: {said}")
    for refusal in report.refusals:
        _print_text(console, f"  {refusal}\n    {refusal.advice}")


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
        _print_text(
            console,
            f"{report.policy} learned from {report.learned_share:.0%} of these decisions, which "
            "flatters it; evaluate it with --held-out",
        )
    _print_text(
        console,
        f"{report.policy}: {health.n:,} decisions of {users_words(health.n_users, log)}; mean "
        f"weight {health.mean_weight:.3f} ± {health.mean_weight_se:.3f}, largest share of the "
        f"weight {health.max_weight_share:.1%}, smallest propensity {health.min_propensity:.2g}, "
        f"effective rewards {health.effective_rewards:,.1f} of {health.n_rewards:,}, seen "
        f"{log.seen_share:.1%}, censored {log.censored_share:.1%}{dangling}, "
        f"{calibration}{arms}{drift}",
    )


def _print_text(console: Console, text: str) -> None:
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
