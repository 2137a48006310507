"""`nextswipe train bandit`."""

from typing import Annotated

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json


def register(app: typer.Typer) -> None:
    """Add the group `train`."""
    group = typer.Typer(no_args_is_help=True, help="Train policies from the log.")
    group.callback()(_group)  # keeps it a group while it has one command
    group.command("bandit", epilog="Example: nextswipe train bandit --holdout 0.3")(train_bandit)
    app.add_typer(group, name="train")


def train_bandit(
    holdout: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the pages to judge by: the latest.")
    ] = 0.2,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Train the bandit from the log; publish it if held-out pages say that it is better.

    Exit code 1: it was not published. The server must be stopped.
    """
    from serve.training import train_bandit as train

    with bar("training", None) as advance:
        trained = train(load_settings(config, data), holdout=holdout, advance=advance)
    if as_json:
        print_json(trained)
    else:
        estimate, logged = trained.report.estimate("dr"), trained.report.logged
        typer.echo(
            f"held-out pages: {logged.value:.4f} as logged, {estimate.value:.4f} "
            f"[{estimate.low:.4f}, {estimate.high:.4f}] as trained"
        )
        if trained.version is not None:
            typer.echo(f"published version {trained.version.version}")
        else:
            typer.echo("not published: the lower bound is not above what was logged")
    if trained.version is None:
        raise typer.Exit(1)


def _group() -> None:
    """Train policies from the log."""
