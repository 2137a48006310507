"""`nextswipe bench coldstart`: which exploration should be the default."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, print_json

if TYPE_CHECKING:
    from serve.bench.coldstart import ColdStartResult, Comparison
    from serve.bench.coldstart_figures import Span

EXAMPLE = "Example: nextswipe bench coldstart --replicates 4 --json"


def bench_coldstart(
    replicates: Annotated[int, typer.Option(min=2, help="Of the world; arms share them.")] = 48,
    rounds: Annotated[
        int, typer.Option(min=400, help="Cards of each replicate; an upload lives half of them.")
    ] = 12_000,
    swipe_worlds: Annotated[
        int, typer.Option(min=0, help="Of SwipeEnv, 15,000 cards an arm each; 0: none.")
    ] = 4,
    processes: Annotated[
        int | None, typer.Option(min=1, help="That share the work; else one a processor.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Compare explorations where uploads come and go: the default, bandits tuned for it, VW's own.

    It should show, for the default, regret_ratio_best_linear of 1.05 or less, regret_ratio_epsilon
    of .85 or less, p_20 of .61 or more and gini of .62 or less. Linear bandits are tuned first, on
    6 replicates of their own; of LinUCB and Thompson sampling, and of epsilon .05 over hopeful
    scores and over the posterior's mean, the stronger one counts. The same arms in SwipeEnv, with
    uploads that arrive, are under swipe. Intervals are 95% over replicates.
    """
    from serve.bench.coldstart import ColdStartSize, run_coldstart

    size = ColdStartSize(replicates=replicates, rounds=rounds, swipe_worlds=swipe_worlds)
    with bar("replicates", size.n_tasks) as advance:
        result = run_coldstart(
            size, seed=seed, advance=advance, processes=processes or os.cpu_count() or 1
        )
    if as_json:
        print_json(result)
    else:
        print_result(result)


def print_result(result: "ColdStartResult") -> None:
    """Print the comparisons as tables."""
    for name in ("linucb", "lints"):
        args = getattr(result.linear, name)
        typer.echo(
            f"{name}: width {args.width}, item_sd {args.item_sd}, weight_sd {args.weight_sd}"
        )
    _print_comparison("cold start", result)
    if result.swipe is not None:
        _print_comparison("SwipeEnv with uploads", result.swipe)


def _print_comparison(title: str, comparison: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    names = ("arm", "replicates", "reward", "regret", "gini", "p_20", "recall", "precision")
    table = Table(title=title, box=None)
    for name in names:
        table.add_column(name, justify="left" if name == "arm" else "right", no_wrap=True)
    for arm in comparison.arms:
        spans = (arm.reward, arm.regret, arm.gini, arm.p_20)
        table.add_row(
            arm.name, str(arm.replicates), *map(_span, spans), _of(arm.recall), _of(arm.precision)
        )
    Console(width=120).print(table)
    typer.echo(f"best_linear {comparison.best_linear}")
    typer.echo(f"best_epsilon {comparison.best_epsilon}")
    for name, (low, high) in comparison.intervals.items():
        typer.echo(f"{name:26} {getattr(comparison, name):.4f}  [{low:.4f}, {high:.4f}]")


def _span(span: "Span") -> str:
    return f"{span.value:.4f} ±{span.high - span.value:.4f}"


def _of(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
