"""The command line `nextswipe`: a list of commands, each registered by its own module.

Commands import heavy modules (Ray, pyarrow, Vowpal Wabbit) themselves, so help and user errors are
fast.
"""

import typer

from serve.commands import (
    audit,
    backup,
    bench,
    config,
    deploy,
    doctor,
    evaluate,
    imports,
    log,
    retention,
    swarm,
    train,
    up,
    world,
)
from serve.commands.group import Commands

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
    audit,
    backup,
    bench,
    doctor,
    config,
    deploy,
):
    command.register(app)

if __name__ == "__main__":
    app()
