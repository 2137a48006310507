"""`nextswipe bench ranker`."""

import time
from typing import Annotated

import typer

from serve.commands.settings import AsJson
from serve.commands.shown import show
from serve.commands.steps import steps
from serve.refused import Refused


def bench_ranker(
    candidates: Annotated[int, typer.Option(min=1, help="Of the page that is timed.")] = 100,
    calls: Annotated[int, typer.Option(min=10, help="Timed, of each.")] = 5_000,
    networks: Annotated[int, typer.Option(min=1, help="Of random weights, compared.")] = 20,
    seed: Annotated[int, typer.Option(help="Of weights and columns.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Time the network of retention as it is served, beside torch (extra `train`).

    It should show forward_ms of .3 or less and max_error of 1e-5 or less.
    """
    from threadpoolctl import threadpool_limits

    try:
        from serve.bench.ranker import run_ranker
    except ImportError as error:
        raise Refused(
            'torch comes with the extra "train": pip install "nextswipe[train]"'
        ) from error

    # Of torch as well, which counts its threads with OpenMP.
    with threadpool_limits(1), steps() as advance:
        result = run_ranker(
            candidates=candidates,
            n_calls=calls,
            n_networks=networks,
            seed=seed,
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    show(result, as_json)
