"""`nextswipe evaluate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json

if TYPE_CHECKING:
    from replay.evaluate import Report


def register(app: typer.Typer) -> None:
    """Add the command `evaluate`."""
    app.command(epilog="Example: nextswipe evaluate vowpal --arm control")(evaluate)


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="uniform, popularity, mixture, vowpal (the current version) or vowpal@N."
        ),
    ] = "vowpal",
    arm: Annotated[str, typer.Option(help="Read only the pages of this arm.")] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Say from the log what another policy would have earned, with how much the log can know.

    A version that learned from the pages it is evaluated on looks better than it is: evaluate one
    from another arm's pages.
    """
    from serve.data_folder import count_lines
    from serve.evaluating import read_question

    settings = load_settings(config, data)
    with bar("reading", count_lines(settings)) as advance:
        question = read_question(settings, policy, arm=arm, advance=advance)
    with bar("evaluating", len(question.dataset)) as advance:
        report = question.answer(advance)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.policy} on the log of {', '.join(report.logged_policies[:3])}")
    for column in ("", "reward a card", "95% interval", "effective n"):
        table.add_column(column, justify="left" if not column else "right")
    for estimate in (report.logged, *report.estimates, report.gain):
        interval = f"{estimate.low:.4f} to {estimate.high:.4f}"
        table.add_row(estimate.estimator, f"{estimate.value:.4f}", interval, f"{estimate.ess:,.0f}")
    console = Console()
    console.print(table)
    health = report.health
    console.print(
        f"{health.n:,} decisions of {health.n_users:,} people; mean weight "
        f"{health.mean_weight:.3f} ± {health.mean_weight_se:.3f}, largest share of the weight "
        f"{health.max_weight_share:.1%}, censored {health.censored_share:.1%}",
        highlight=False,
    )
