"""The command line `nextswipe`: a list of commands, each registered by its own module.

Commands import heavy modules (Ray, pyarrow, Vowpal Wabbit) themselves, so help and user errors are
fast.
"""

import sqlite3
from typing import Any

import typer
from typer.core import TyperGroup

from policies.snapshots import SnapshotCorruption
from replay.log.sqlite.log import LogCorruption
from serve.commands import (
    audit,
    backup,
    bench,
    cohorts,
    config,
    deploy,
    doctor,
    evaluate,
    imports,
    log,
    policy,
    retention,
    swarm,
    train,
    up,
    world,
)
from serve.config import ConfigError
from serve.errors import BadFile, JobError
from serve.store.store import StoreUnavailable

EXPECTED = (
    BadFile,
    ConfigError,
    LogCorruption,
    OSError,
    JobError,
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


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted For You feed that learns from every swipe.",
)

for command in (
    up,
    imports,
    swarm,
    train,
    retention,
    evaluate,
    world,
    log,
    policy,
    audit,
    cohorts,
    backup,
    bench,
    doctor,
    config,
    deploy,
):
    command.register(app)

if __name__ == "__main__":
    app()
