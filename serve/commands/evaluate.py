"""`nextswipe evaluate`."""

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve.config import Config
    from serve.evaluating import Question

EPILOG = "Example: nextswipe evaluate uniform popularity --segment country --report report.html"


def register(app: typer.Typer) -> None:
    """Add the command `evaluate`."""
    app.command(epilog=EPILOG)(evaluate)


def evaluate(
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            help="uniform, popularity, mixture (as the settings have it), vowpal (the current "
            "version), vowpal@N, or MODULE:FUNCTION that returns a policy of your own; several at "
            "once share one pass over the log.",
            show_default="vowpal",
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Somebody else's log: .dsjson, or obp's fields as .csv or .parquet; its policies "
            "are first (the baseline), behaviour, uniform and MODULE:FUNCTION.",
        ),
    ] = None,
    obd: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The Open Bandit Dataset: repeat its published figures."),
    ] = None,
    campaign: Annotated[str, typer.Option(help="Of --obd: all, men or women.")] = "all",
    behaviour: Annotated[str, typer.Option(help="Of --obd, whose log: random or bts.")] = "random",
    target: Annotated[
        str, typer.Option(help="Of --obd, what is asked about: bts or random.")
    ] = "bts",
    arm: Annotated[str, typer.Option(help="Read only the pages of this arm.")] = "",
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out", help="Read only pages that none of the policies has learned from."
        ),
    ] = False,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            help="Answer by this too: country, cohort, 'new users', slot or hour; may be repeated."
        ),
    ] = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals.")] = 0.95,
    force: Annotated[
        bool, typer.Option("--force", help="Estimate where gates fail, and mark it.")
    ] = False,
    importance: Annotated[
        bool, typer.Option("--importance", help="Also say which features matter, by permutation.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report as one HTML file.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Say from the log what other policies would have earned, with how much the log can know.

    Where the log cannot answer there is no number, but the gate that it did not pass and what to
    do. A version that learned from the pages it is evaluated on looks better than it is: evaluate
    an older one with --held-out, or let it learn no more.
    """
    if obd is not None:
        from serve.commands.obd import evaluate_obd

        evaluate_obd(obd, campaign, behaviour, target, force=force, as_json=as_json)
        return
    names = policies or ["vowpal" if log is None else "uniform"]
    settings = load_settings(config, data)
    with _question(settings, names, arm, held_out, log) as question:
        with bar("evaluating", 2 * question.n_decisions) as advance:
            evaluation = question.answer(
                segments=segment or (), level=level, force=force, advance=advance
            )
        found = question.importance() if importance else None
    if report is not None:
        from replay.report import report_html

        report.write_text(report_html(evaluation, found), encoding="utf-8")
    if as_json:
        print_json(evaluation if found is None else {"evaluation": evaluation, "importance": found})
    else:
        from serve.commands.evaluation_tables import print_evaluation, print_importance

        print_evaluation(evaluation)
        if found is not None:
            print_importance(found)


@contextmanager
def _question(
    settings: "Config", names: list[str], arm: str, held_out: bool, log: Path | None
) -> "Iterator[Question]":
    from serve.data_folder import count_lines
    from serve.evaluating import foreign_question, open_question

    with ExitStack() as stack:
        if log is not None:
            yield stack.enter_context(foreign_question(log, names))
            return
        with bar("reading", count_lines(settings)) as advance:
            asked = open_question(settings, names, arm=arm, held_out=held_out, advance=advance)
            question = stack.enter_context(asked)
        yield question
