"""`nextswipe bench decide` and `bench learn`: what a page costs, how fast the log is learned."""

import time
from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson
from serve.commands.shown import show
from serve.commands.steps import steps

Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Full = Annotated[bool, typer.Option("--full", help="The long one.")]


def bench_decide(
    items: Annotated[int, typer.Option(min=200, help="In the catalogue.")] = 10_000,
    candidates: Annotated[int, typer.Option(min=10, help="Of a page.")] = 200,
    pages: Annotated[int, typer.Option(min=10, help="Timed.")] = 2_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Time one page of 10 out of 200 candidates, without HTTP, and where the time goes.

    With --items 1000000 (some 4 minutes, 3 GB) it should show page_p50_ms of 3 or less, page_p99_ms
    of 10 or less, growth of 2.5 or less, recall_at_200 of .95 or more and upload_visible_s of 1 or
    less. ratio_to_text, of 2 or more, is how often the scoring stage fits into Vowpal Wabbit's
    parsing of the shortest text with the same features.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.decide import run_decide

    # As a replica runs (see serve.app): numpy is imported by now, so its variable comes too late.
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_decide(
            n_items=items,
            n_candidates=candidates,
            n_pages=10 * pages if full else pages,
            seed=seed,
            now_ms=now_ms(),
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    show(result, as_json)


def bench_learn(
    pages: Annotated[int, typer.Option(min=50, help="Swiped into the log.")] = 2_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Time learning from the log, as a learner catches up after a pause.

    It should show interactions_per_s of 15,000 or more, from the log into VW with decoding and
    joining, and ratio_to_text of 5 or more: how much faster that is than VW's own parsing and
    learning of the same decisions as dsjson.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.learn import run_learn

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_learn(
            n_pages=10 * pages if full else pages,
            seed=seed,
            now_ms=now_ms(),
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    show(result, as_json)
