"""`nextswipe bench loop` and `nextswipe bench decide`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serve.commands.settings import AsJson, now_ms, print_json

KUAIRAND = Path("../shared/data/kuairand_pure")

Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Full = Annotated[bool, typer.Option("--full", help="The long one.")]


def register(app: typer.Typer) -> None:
    """Add the group `bench`."""
    group = typer.Typer(no_args_is_help=True, help="Measure it: each ends within 10 minutes.")
    group.command("loop", epilog="Example: nextswipe bench loop --kuairand DIR --json")(bench_loop)
    group.command("decide", epilog="Example: nextswipe bench decide --json")(bench_decide)
    app.add_typer(group, name="bench")


def bench_loop(
    kuairand: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"A KuaiRand folder; else {KUAIRAND} if it is there, else a generated catalogue.",
        ),
    ] = None,
    learn: Annotated[int, typer.Option(min=100, help="Cards before the comparison.")] = 15_000,
    compare: Annotated[int, typer.Option(min=100, help="Cards during it, both halves.")] = 30_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop with a real server: learn, compare, fold the log again, evaluate.

    It should show uplift_low of .10 or more, feedback_acked equal to feedback_logged,
    redrawn_mismatches and http_errors 0, propensity_max_error of 1e-6 or less, effect_lag_p95_s
    of 5 or less, and ope_estimate within 3 ope_se of true_value.
    """
    from serve.bench.loop import LoopSize, run_loop

    size = LoopSize(learn=4 * learn if full else learn, compare=4 * compare if full else compare)
    folder = kuairand or (KUAIRAND if KUAIRAND.is_dir() else None)
    with _steps() as advance:
        result = run_loop(size, seed=seed, kuairand=folder, now_ms=now_ms(), advance=advance)
    _show(result, as_json)


def bench_decide(
    items: Annotated[int, typer.Option(min=200, help="In the catalogue.")] = 10_000,
    pages: Annotated[int, typer.Option(min=10, help="Timed.")] = 2_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Time one page of 10 out of 100 candidates, without HTTP, and where the time goes.

    It should show page_p50_ms of 2 or less and ratio_to_text of 2 or more: how often the scoring
    stage fits into Vowpal Wabbit's parsing of the shortest text with the same features.
    """
    from serve.bench.decide import run_decide

    with _steps() as advance:
        result = run_decide(
            n_items=items,
            n_pages=10 * pages if full else pages,
            seed=seed,
            now_ms=now_ms(),
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    _show(result, as_json)


def _show(result: msgspec.Struct, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    for name, value in msgspec.to_builtins(result).items():
        typer.echo(f"{name:22} {value}")


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each step on standard error; nothing where nobody looks."""
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
