"""The command `nextswipe arms`, which says which arm of the experiment won."""

from typing import Annotated

import typer

from serve.commands.settings import AsJson, ConfigFile, DataFolder, bar, load_settings, print_json


def register(app: typer.Typer) -> None:
    """Add the command `arms`."""
    app.command("arms", epilog="Example: nextswipe arms --config docs/examples/halves.toml")(arms)


def arms(
    control: Annotated[
        str,
        typer.Option(
            metavar="ARM",
            help='Arm that the others are compared to; default: "control", else the first.',
        ),
    ] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Show which arm of the experiment won, or that it is too early; a server may be running.

    Look as often as you like: the intervals hold at all looks together. They are made by user, and
    the sample ratio is checked.
    """
    from rich.console import Console

    from serve.jobs.arms import notes, read_arms, table, verdict
    from serve.store.data_folder import count_lines

    settings = load_settings(config, data)
    with bar("reading", count_lines(settings)) as advance:
        readout = read_arms(settings, control=control, advance=advance)
    if as_json:
        print_json(readout)
        return
    typer.echo(verdict(readout))
    Console().print(table(readout))
    for note in notes(readout):
        typer.echo(note)
