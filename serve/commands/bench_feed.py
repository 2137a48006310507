"""`nextswipe bench feed` and `nextswipe bench swaps`: the edge under load."""

import time
from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson
from serve.commands.shown import show
from serve.commands.steps import steps

EXAMPLE = "Example: nextswipe bench feed --json"
SWAPS_EXAMPLE = "Example: nextswipe bench swaps --json"
Items = Annotated[int, typer.Option(min=200, help="In the catalogue.")]
Seed = Annotated[int, typer.Option(help="Of catalogue and people.")]


def bench_feed(
    items: Items = 10_000,
    connections: Annotated[int, typer.Option(min=1, help="Of the closed loop.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Of a window for each edge.")] = 7,
    window_s: Annotated[float, typer.Option(min=0.1, help="Seconds of a window.")] = 3.0,
    rate: Annotated[float, typer.Option(min=1.0, help="Pages a second of the open loop.")] = 100.0,
    open_s: Annotated[float, typer.Option(min=0.1, help="Seconds of the open loop.")] = 30.0,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Load the whole server with pages of 10 out of 100, beside plain uvicorn and Serve's default.

    It should show ratio_to_bare of .6 or more, ratio_to_default of 2 or more, p99_ms of 25 or less
    at 100 pages a second, idle_mb of 1,300 or less, with --items 100000 too, and no errors.
    """
    from serve.bench.feed import FeedSize, run_feed

    size = FeedSize(
        items=items,
        connections=connections,
        rounds=rounds,
        window_s=window_s,
        rate=rate,
        open_s=open_s,
    )
    with steps() as advance:
        result = run_feed(
            size, seed=seed, now_ms=now_ms(), clock_ns=time.perf_counter_ns, advance=advance
        )
    show(result, as_json)


def bench_swaps(
    swaps: Annotated[int, typer.Option(min=2, help="Models to swap in.")] = 1_000,
    items: Items = 10_000,
    connections: Annotated[int, typer.Option(min=1, help="Of the closed loop.")] = 8,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Swap in models several times a second while pages are served at full load.

    It should show served close to published, p99_ratio of 1.5 or less, no errors, 0 mismatches,
    and told_apart above 0: the check could have failed.
    """
    from serve.bench.swaps import SwapsSize, run_swaps

    size = SwapsSize(swaps=swaps, items=items, connections=connections)
    with steps() as advance:
        result = run_swaps(size, seed=seed, now_ms=now_ms(), advance=advance)
    show(result, as_json)
