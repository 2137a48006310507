"""The commands `nextswipe backup` and `nextswipe restore`."""

from pathlib import Path
from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.progress import bar
from serve.commands.settings import ConfigFile, DataFolder, load_settings

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


def register(app: typer.Typer) -> None:
    """Add the commands `backup` and `restore`."""
    app.command(epilog="Example: nextswipe backup backups/monday")(backup)
    app.command(epilog="Example: nextswipe restore backups/monday --data data")(restore)


def backup(folder: Folder, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Copy the data folder, including the secret; a server may be running."""
    from serve.jobs import backup as job

    settings = load_settings(config, data)
    with bar("copying", job.count_pages(settings)) as advance:
        made = job.backup(settings, folder, now_ms(), advance)
    typer.echo(f"log up to {made.offset:,} and policy version {made.version} in {folder}")


def restore(
    folder: Folder,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a data folder that is not empty.")
    ] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Replace the data folder by a backup, after checking the backup.

    The server must be stopped.
    """
    from serve.jobs import backup as job

    settings = load_settings(config, data)
    about = job.restore(settings, folder, force=force)
    typer.echo(f"log up to {about.offset:,} and policy version {about.version} restored")
