"""The commands `nextswipe train bandit`, `retention` and `offline`."""

from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson, ConfigFile, DataFolder, bar, load_settings, print_json
from serve.commands.train_offline import EXAMPLE, train_offline
from serve.commands.train_retention import register_retention


def register(app: typer.Typer) -> None:
    """Add the group `train`."""
    group = typer.Typer(
        no_args_is_help=True, help="Train policies from the log, or in a simulated world."
    )
    group.command("bandit", epilog="Example: nextswipe train bandit --holdout 0.3")(train_bandit)
    register_retention(group)
    group.command("offline", epilog=EXAMPLE)(train_offline)
    app.add_typer(group, name="train")


def train_bandit(
    holdout: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the pages, the latest, to judge by.")
    ] = 0.2,
    margin: Annotated[
        float, typer.Option(min=0.0, help="Largest share of the logged reward that may be lost.")
    ] = 0.01,
    min_ess: Annotated[
        float, typer.Option(min=1.0, help="Least effective sample size, in decisions.")
    ] = 500.0,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Train the bandit from the log; publish it if held-out pages show that it does no harm.

    Exit code 1: it was not published, and nothing was changed; the failed gate is printed. A server
    may be running, under the same settings: it goes on from what is published.
    """
    from replay.evaluate.gates import Gates
    from serve.jobs.train_bandit import train_bandit as train
    from serve.learn.gate import Gate
    from serve.store.data_folder import count_lines

    settings, gate = load_settings(config, data), Gate(margin, Gates(min_ess=min_ess))
    with bar("training", count_lines(settings)) as advance:
        trained = train(settings, holdout=holdout, gate=gate, now_ms=now_ms(), advance=advance)
    if as_json:
        print_json(trained)
    else:
        typer.echo(trained.describe())
    if trained.version is None:
        raise typer.Exit(1)
