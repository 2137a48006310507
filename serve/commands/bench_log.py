"""`nextswipe bench log`: feedback a second that one replica takes, durably."""

from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson, StoreUrl, require_store
from serve.commands.shown import show
from serve.commands.steps import steps

EXAMPLE = "Example: nextswipe bench log --store redis://127.0.0.1:6379/0 --json"


def bench_log(
    store: StoreUrl = None,
    events: Annotated[int, typer.Option(min=5_000, help="In each half.")] = 100_000,
    posters: Annotated[int, typer.Option(min=1, help="At a time.")] = 64,
    rate: Annotated[float, typer.Option(min=100.0, help="Events a second, paced.")] = 10_000.0,
    as_json: AsJson = False,
) -> None:
    """Time durable feedback in HTTP batches of 50 to one replica: how much, and how soon.

    It should show events_per_s of 10,000 or more (each poster sends as soon as it was heard), and
    ack_p99_ratio of 10 or less (batches due at --rate): the p99 of an acknowledgement over the
    larger of the disk's own fsync, in the same run, and 1 ms. events_logged equals events_acked.
    With --store it makes an installation of its own in that Redis, and tells how many bytes of its
    memory an item, a page and an event take.
    """
    from serve.bench.log import LogSize, run_log

    size = LogSize(events=events, posters=posters, rate=rate)
    with steps() as advance:
        result = run_log(size, store=require_store(store or ""), now_ms=now_ms(), advance=advance)
    show(result, as_json)
