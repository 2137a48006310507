"""Options, settings, progress bars and output that the commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serve.config import Config, ConfigError, load
from serve.errors import JobError
from serve.store.open import find_kind

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; a missing key has its default."),
]

DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder; overrides the settings."),
]

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Address of the store of log and lookups, redis://…; overrides the settings.",
    ),
]

Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Port; 0: a free one; overrides the settings."),
]

Host = Annotated[
    str | None,
    typer.Option("--host", metavar="ADDRESS", help="Address to listen at; overrides the settings."),
]

PICTURES = (".png", ".svg", ".pdf")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def load_settings(file: Path | None, data: Path | None, store: str | None = None) -> Config:
    """Return the settings of a file, or the defaults, with this data folder and store.

    Raises:
        ConfigError: the file or the address of the store is invalid.
    """
    config = Config() if file is None else load(file)
    if data is not None:
        folder = msgspec.structs.replace(config.data, folder=str(data))
        config = msgspec.structs.replace(config, data=folder)
    if store is not None:
        kept = msgspec.structs.replace(config.store, url=require_address(store))
        config = msgspec.structs.replace(config, store=kept)
    find_kind(config.store)
    return config


def listening_at(config: Config, host: str | None, port: int | None) -> Config:
    """Return the settings with this host and port, where they are given."""
    server = config.server
    if host is not None:
        server = msgspec.structs.replace(server, host=host)
    if port is not None:
        server = msgspec.structs.replace(server, port=port)
    return msgspec.structs.replace(config, server=server)


def require_address(url: str) -> str:
    """Return the address of a store, or the empty string for the data folder.

    Raises:
        ConfigError: it has no scheme.
    """
    if url and "://" not in url:
        raise ConfigError(f"--store: expected an address such as redis://HOST, got {url!r}")
    return url


def require_picture(file: Path) -> None:
    """Check that a picture can be written to a file, before the work is done.

    Raises:
        JobError: the suffix is none of `PICTURES`, or there is no such folder.
    """
    if file.suffix.lower() not in PICTURES:
        raise JobError(f"{file}: expected a file that ends in {', '.join(PICTURES)}")
    if not file.parent.is_dir():
        raise JobError(f"{file}: there is no folder {file.parent}")


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(msgspec.json.encode(value).decode())


def show(result: msgspec.Struct, as_json: bool) -> None:
    """Print a benchmark's figures as one JSON object, or one per line."""
    if as_json:
        print_json(result)
        return
    for name, value in msgspec.to_builtins(result).items():
        for row in value if isinstance(value, list) else [value]:
            typer.echo(f"{name:22} {row}")


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each step; yield a function of step name, amount done, and total."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=min(done, total))

        yield advance


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar; yield a function that advances it.

    Args:
        label: description of the work.
        total: sum of all advances.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(label, total=total)
        yield lambda n: progress.advance(task, n)
