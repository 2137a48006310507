"""The commands `nextswipe retention publish`, `use` and `list`."""

from pathlib import Path
from typing import Annotated

import typer

from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json
from serve.errors import JobError


def register(app: typer.Typer) -> None:
    """Add the group `retention`."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Choose the trained ranker for arms with policy blend.",
    )
    group.command("publish", epilog="Example: nextswipe retention publish ranker.safetensors")(
        publish
    )
    group.command("use", epilog="Example: nextswipe retention use 0")(use)
    group.command("list", epilog="Example: nextswipe retention list")(list_all)
    app.add_typer(group, name="retention")


def publish(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ranker file, with its manifest beside it.")
    ],
    origin: Annotated[
        str, typer.Option(help="Note on where the ranker comes from.", show_default="")
    ] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Keep a ranker in the data folder and make it the current one; a running server follows.

    It acts only in arms of the experiment with policy blend. It must have been trained on the
    columns that the feed encodes.
    """
    from serve.learn.rankers import publish_ranker

    settings = load_settings(config, data)
    published = publish_ranker(settings, _read(file), origin=origin or file.name)
    if as_json:
        print_json(published)
        return
    typer.echo(f"ranker {published.version} is current")
    if not any(arm.policy == "blend" for arm in settings.experiment.arms):
        typer.echo('no arm of the experiment has policy "blend" yet: nobody is served by it')


def use(
    version: Annotated[
        int, typer.Argument(min=0, help="Version of a kept ranker; 0: the bandit alone.")
    ],
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Make a kept ranker the current one, or none; a running server follows at once."""
    from serve.learn.rankers import use_ranker

    use_ranker(load_settings(config, data), version)
    typer.echo(f"ranker {version} is current" if version else "the bandit serves alone")


def list_all(as_json: AsJson = False, config: ConfigFile = None, data: DataFolder = None) -> None:
    """List the kept rankers: all that were ever published."""
    from serve.learn.rankers import list_rankers

    rankers = list_rankers(load_settings(config, data))
    if as_json:
        print_json(rankers)
        return
    for ranker in rankers:
        mark = "*" if ranker.is_current else " "
        typer.echo(f"{mark} {ranker.version:4}  {ranker.origin}")


def _read(file: Path) -> bytes:
    from policies.ranker.tensors import manifest_path, read_verified

    try:
        return read_verified(file)
    except FileNotFoundError as error:
        raise JobError(
            f"{file}: expected a ranker and its manifest {manifest_path(file).name} beside it, as "
            f"training writes both: {error}"
        ) from error
