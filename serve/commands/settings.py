"""Options that the commands share, and the settings they produce."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serve.config import Config, ConfigError, load
from serve.errors import JobError

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
        help="Redis for log and lookups, redis://…; overrides the settings.",
    ),
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
    return config if store is None else _with_store(config, store)


def require_store(url: str) -> str:
    """Return the address of a Redis, or the empty string.

    Raises:
        ConfigError: it is neither.
    """
    if url and not url.startswith(("redis://", "rediss://")):
        raise ConfigError(f"--store: expected redis:// or rediss://, got {url!r}")
    return url


def _with_store(config: Config, url: str) -> Config:
    kept = msgspec.structs.replace(config.store, url=require_store(url))
    return msgspec.structs.replace(config, store=kept)


def require_picture(file: Path) -> None:
    """Check that a picture can be written to a file, before the work is done.

    Raises:
        Refused: the suffix is none of `PICTURES`, or there is no such folder.
    """
    if file.suffix.lower() not in PICTURES:
        raise JobError(f"{file}: expected a file that ends in {', '.join(PICTURES)}")
    if not file.parent.is_dir():
        raise JobError(f"{file}: there is no folder {file.parent}")


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(msgspec.json.encode(value).decode())
