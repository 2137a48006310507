"""The group of all commands: a user error prints one line on standard error and exits with 2."""

import sqlite3
from typing import Any

import typer
from typer.core import TyperGroup

from policies.snapshots import SnapshotCorruption
from replay.log import LogCorruption
from serve.config import ConfigError
from serve.importers.bad_file import BadFile
from serve.refused import Refused
from serve.store import StoreUnavailable

EXPECTED = (
    BadFile,
    ConfigError,
    LogCorruption,
    OSError,
    Refused,
    SnapshotCorruption,
    StoreUnavailable,
    sqlite3.DatabaseError,
)


class Commands(TyperGroup):
    """Prints expected errors as messages; any other error is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> object:  # Typer does not export its own Context here
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the output has gone, which is no error
        except EXPECTED as error:
            typer.echo(f"nextswipe: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error
