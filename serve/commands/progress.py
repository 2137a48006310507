"""A progress bar on standard error, shown on terminals only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
