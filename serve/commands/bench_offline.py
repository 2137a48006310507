"""`nextswipe bench offline`."""

import time
from typing import Annotated

import typer

from serve.commands.settings import AsJson
from serve.commands.shown import show
from serve.commands.steps import steps
from serve.refused import Refused

EXAMPLE = "Example: nextswipe bench offline --json"


def bench_offline(
    cards: Annotated[int, typer.Option(min=5_000, help="Of the log, about.")] = 200_000,
    people: Annotated[int, typer.Option(min=20, help="Who play what was accepted.")] = 1_000,
    worse: Annotated[int, typer.Option(min=1, help="Rankers that go the other way.")] = 20,
    method: Annotated[
        list[str] | None, typer.Option(help="bc, marwil, iql or cql; give it again for more.")
    ] = None,
    generations: Annotated[
        int, typer.Option(min=0, help="Of a search in a world fitted to the log; 0: none.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of people, draws and the split.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Learn from a mediocre policy's log, judge by it, and play what was accepted.

    It should show what was accepted to be better when it is played, and all worse ones refused.
    """
    import msgspec
    from threadpoolctl import threadpool_limits

    try:
        from serve.bench.offline import METHODS, OfflineSize, run_offline
    except ImportError as error:
        raise Refused(
            'training comes with the extra "train": pip install "nextswipe[train]"'
        ) from error
    from policies.retention.offline_args import Method

    try:
        methods = msgspec.convert(method or METHODS, tuple[Method, ...])
    except msgspec.ValidationError as error:
        raise Refused(f"expected methods of {', '.join(METHODS)}, got {method}") from error
    with threadpool_limits(1), steps() as advance:
        result = run_offline(
            OfflineSize(cards=cards, people=people, worse=worse, generations=generations),
            methods=methods,
            seed=seed,
            clock_s=time.monotonic,
            advance=advance,
        )
    show(result, as_json)
