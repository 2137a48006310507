"""The commands `nextswipe config show` and `nextswipe config check`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serve.commands.settings import ConfigFile, DataFolder, load_settings
from serve.config import SHIPPED


def register(app: typer.Typer) -> None:
    """Add the group `config`."""
    group = typer.Typer(no_args_is_help=True, help="Show and check the settings.")
    group.command("show", epilog="Example: nextswipe config show --default > mine.toml")(show)
    group.command("check", epilog="Example: nextswipe config check mine.toml")(check)
    app.add_typer(group, name="config")


def show(
    default: Annotated[
        bool, typer.Option("--default", help="Print the shipped file, which explains every key.")
    ] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Print all settings in force, as a file that can be given to --config."""
    if default:
        typer.echo(SHIPPED.read_text(encoding="utf-8"), nl=False)
        return
    sections = msgspec.to_builtins(load_settings(config, data))
    texts = ["\n".join([f"[{name}]", *_pairs(section)]) for name, section in sections.items()]
    typer.echo("\n\n".join(texts))


def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="Settings file.")]) -> None:
    """Read a settings file and report whether it can be used.

    Policies of your own that its arms name are loaded and held to the laws.
    """
    from serve.learn.custom import require_lawful

    require_lawful(load_settings(file, None))
    typer.echo(f"{file} is fine")


def _pairs(table: Mapping[str, object]) -> list[str]:
    """Return keys and values; in TOML a missing key means None."""
    return [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]


def _toml(value: object) -> str:
    """Return a value as TOML; strings, numbers and booleans are written as in JSON."""
    match value:
        case dict():
            return "{ " + ", ".join(_pairs(value)) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return msgspec.json.encode(value).decode()
