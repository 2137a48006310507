"""`nextswipe bench retention`: how much of what brings people back is learned."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.settings import AsJson, print_json
from serve.commands.shown import show
from serve.commands.steps import steps

if TYPE_CHECKING:
    from serve.bench.retention_twin import RetentionTwinResult

EXAMPLE = "Example: nextswipe bench retention --twin --seeds 5 --json"


def bench_retention(
    twin: Annotated[bool, typer.Option("--twin", help="In MiniSwipe, beside its optimum.")] = False,
    world: Annotated[bool, typer.Option("--world", help="In SwipeEnv, on unseen people.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of the twin; the worst counts.")] = 5,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="NAME", help="Of the twin, repeatedly; else all."),
    ] = None,
    people: Annotated[int, typer.Option(min=1_000, help="Of the world, measured.")] = 20_000,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="That share the work; else 1 in the twin, in the world all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn; the first one.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train for retention and score it: in the twin that is solved, or in the whole world.

    Scores of the twin are 0 for what is watched longest now and 1 for the optimum. It should show
    watch_worst of .95 or more and days_worst of .90 or more in seconds_worst of 300 or less, and
    planner_watch_worst and planner_days_worst of .99 or more in planner_seconds of 5 or less. Rows
    have all that was tried, as served and greedy; baselines have 1 seed.

    The world should show gain_over_myopic of .10 or more, d30_over_myopic of .05 or more and
    gain_over_session of .05 or more, each with low above 0, control within .005 of 0, and
    moved_wins of 9 or more.
    """
    if twin == world:
        raise typer.BadParameter("expected one of --twin and --world")
    if world:
        _bench_world(people, processes, seed, as_json)
    else:
        _bench_twin(seeds, arms, processes or 1, seed, as_json)


def _bench_twin(
    seeds: int, arms: list[str] | None, processes: int, seed: int, as_json: bool
) -> None:
    from serve.bench.retention_twin import TwinSize, run_retention_twin

    try:
        size = TwinSize(seeds, arms=tuple(arms)) if arms else TwinSize(seeds)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--arm") from error
    with steps() as advance:
        result = run_retention_twin(
            size, seed=seed, clock_ns=time.perf_counter_ns, advance=advance, processes=processes
        )
    if as_json:
        print_json(result)
    else:
        print_result(result)


def _bench_world(people: int, processes: int | None, seed: int, as_json: bool) -> None:
    from serve.bench.retention_world import WorldSize, run_world

    try:
        size = WorldSize(people)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--people") from error
    with steps() as advance:
        result = run_world(size, seed=seed, advance=advance, processes=processes)
    show(result, as_json)


def print_result(result: "RetentionTwinResult") -> None:
    """Print the arms as a table, and the figures of the bar under it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name in ("arm", "objective", "served", "worst", "greedy", "cards", "seconds", "seeds"):
        left = name in {"arm", "objective"}
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for row in result.rows:
        table.add_row(
            row.arm,
            row.objective,
            f"{_mean(row.served):.3f}",
            f"{min(row.served):.3f}",
            f"{_mean(row.greedy):.3f}",
            f"{row.cards:,}",
            f"{_mean(row.seconds):.1f}",
            str(len(row.served)),
        )
    Console(width=120).print(table)
    for name in result.__struct_fields__:
        if name != "rows":
            typer.echo(f"{name:22} {getattr(result, name)}")


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
