"""The command `nextswipe evaluate`."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer
from rich.console import Console

from replay.evaluate.evaluate import Evaluation
from replay.evaluate.plan import plans
from replay.report.terminal import print_evaluation, print_text
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
        JobError: there is no such campaign, policy or log.
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

_OF_REPORTS = frozenset({"segment", "estimator", "importance", "report"})
_OF_OURS = frozenset({"arm", "held_out", "as_learned", "pin"})
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
    as_learned: Annotated[
        bool,
        typer.Option(
            "--as-learned", help="Judge users by the very version, even where it learned from them."
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Tell how many more swipes an answer needs, and how long."),
    ] = False,
    width: Annotated[
        float | None,
        typer.Option(min=0.0, help="Width of the interval of --plan; else .1 of the reward."),
    ] = None,
    pin: Annotated[
        bool,
        typer.Option("--pin", help="Keep the versions that are named, for later questions."),
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
    version that learned from the log judges each user by what it would be without them. vowpal@30m
    is the version of 30 minutes before the log's end (also h and d).
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
        open_evaluation,
        open_external_evaluation,
        pin_versions,
        reward_fit,
    )
    from serve.store.data_folder import count_lines

    own = [find_estimator(settings, name) for name in estimator or ()]

    with ExitStack() as stack:
        if log is not None:
            job = stack.enter_context(open_external_evaluation(log, names))
        else:
            with bar("reading", count_lines(settings)) as advance:
                job = stack.enter_context(
                    open_evaluation(
                        settings,
                        names,
                        arm=arm,
                        held_out=held_out,
                        as_learned=as_learned,
                        advance=advance,
                    )
                )
            if pin:
                pinned = ", ".join(map(str, pin_versions(settings, job))) or "none is kept"
                typer.echo(f"pinned versions: {pinned}", err=True)
        with bar("evaluating", 2 * job.n_decisions) as advance:
            evaluation = job.answer(
                fit=reward_fit(settings, reward_model),
                segments=segment or (),
                level=level,
                force=force or plan,
                estimators=own,
                advance=advance,
            )
        if plan:
            _write_plans(evaluation, width, as_json)
            return
        try:
            found = job.importance() if importance else None
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


def _write_plans(evaluation: Evaluation, width: float | None, as_json: bool) -> None:
    try:
        found = plans(evaluation, width)
    except ValueError as error:
        raise JobError(f"--plan: {error}") from error
    if as_json:
        print_json(found)
        return
    for each in found:
        print_text(Console(highlight=False), str(each))


def _refuse_ignored(context: typer.Context, obd: Path | None, log: Path | None) -> None:
    given = {
        str(parameter.name): parameter
        for parameter in context.command.params
        if _is_given(context, str(parameter.name))
    }
    if "plan" in given:
        _refuse_names("--plan", given, given.keys() & _OF_REPORTS)
    elif "width" in given:
        raise JobError("--width: not looked at without --plan; leave it out")
    if obd is not None:
        asked, ignored = "--obd", given.keys() - _OF_OBD
    elif log is not None:
        asked, ignored = "--log", given.keys() & (_OF_OBD_ALONE | _OF_OURS)
    else:
        asked, ignored = "our own log", given.keys() & _OF_OBD_ALONE
    _refuse_names(asked, given, ignored)


def _refuse_names(asked: str, given: Mapping[str, Any], ignored: Collection[str]) -> None:
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
