"""Printing of a benchmark's results."""

import msgspec
import typer

from serve.commands.settings import print_json


def show(result: msgspec.Struct, as_json: bool) -> None:
    """Print a benchmark's figures as one JSON object, or one per line."""
    if as_json:
        print_json(result)
        return
    for name, value in msgspec.to_builtins(result).items():
        for row in value if isinstance(value, list) else [value]:
            typer.echo(f"{name:22} {row}")
