"""What a benchmark measured, as its command prints it."""

import msgspec
import typer

from serve.commands.settings import print_json


def show(result: msgspec.Struct, as_json: bool) -> None:
    """Print the figures of a benchmark: as one JSON object, or a line each and a line a row."""
    if as_json:
        print_json(result)
        return
    for name, value in msgspec.to_builtins(result).items():
        for row in value if isinstance(value, list) else [value]:
            typer.echo(f"{name:22} {row}")
