"""The group of all commands: a user's mistake is one line on standard error and exit code 2."""

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
    """Turns what a command may expect into its message; all else is a bug and keeps its trace."""

    def invoke(self, ctx: Any) -> object:  # Typer does not export its own Context here
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read the output has gone, which is no mistake
        except EXPECTED as error:
            typer.echo(f"nextswipe: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error
