"""`nextswipe bench`: a command for each figure that is claimed."""

import time
from pathlib import Path
from typing import Annotated

import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson, StoreUrl, load_settings, show, steps

Seed = Annotated[int, typer.Option(help="Seed of all draws.")]
Full = Annotated[bool, typer.Option("--full", help="The long one.")]


def bench_decide(
    items: Annotated[int, typer.Option(min=200, help="In the catalogue.")] = 10_000,
    candidates: Annotated[int, typer.Option(min=10, help="Candidates of a page.")] = 200,
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

    # As a replica runs (see serve.processes.ray_app): numpy is imported by now, so its variable
    # comes too late.
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
    joining.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.learn import run_learn

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        timed = run_learn(
            n_pages=10 * pages if full else pages,
            seed=seed,
            now_ms=now_ms(),
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    show(timed.result, as_json)


FEED_EXAMPLE = "Example: nextswipe bench feed --json"
SWAPS_EXAMPLE = "Example: nextswipe bench swaps --json"
Items = Annotated[int, typer.Option(min=200, help="In the catalogue.")]


def bench_feed(
    items: Items = 10_000,
    connections: Annotated[int, typer.Option(min=1, help="Connections of the closed loop.")] = 8,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds; each edge has one window a round.")
    ] = 7,
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
    connections: Annotated[int, typer.Option(min=1, help="Connections of the closed loop.")] = 8,
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


LOG_EXAMPLE = "Example: nextswipe bench log --store redis://127.0.0.1:6379/0 --json"


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
    With --store it makes an installation of its own there, removes it, and tells how many bytes of
    its memory an item, a page and an event take.
    """
    from serve.bench.log import LogSize, run_log

    size = LogSize(events=events, posters=posters, rate=rate)
    settings = load_settings(None, None, store).store
    with steps() as advance:
        result = run_log(size, store=settings, now_ms=now_ms(), advance=advance)
    show(result, as_json)


KuaiRandFolder = Annotated[
    Path | None,
    typer.Option(
        "--kuairand",
        metavar="DIR",
        help="KuaiRand folder for the catalogue and the users; else a generated catalogue.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group `bench`."""
    group = typer.Typer(no_args_is_help=True, help="Measure it: each ends within 10 minutes.")
    group.command("loop", epilog="Example: nextswipe bench loop --kuairand DIR --json")(bench_loop)
    group.command("feed", epilog=FEED_EXAMPLE)(bench_feed)
    group.command("swaps", epilog=SWAPS_EXAMPLE)(bench_swaps)
    group.command("log", epilog=LOG_EXAMPLE)(bench_log)
    group.command("decide", epilog="Example: nextswipe bench decide --json")(bench_decide)
    group.command("learn", epilog="Example: nextswipe bench learn --json")(bench_learn)
    app.add_typer(group, name="bench")


def bench_loop(
    kuairand: KuaiRandFolder = None,
    learn: Annotated[int, typer.Option(min=100, help="Cards before the comparison.")] = 15_000,
    compare: Annotated[int, typer.Option(min=100, help="Cards during it, both halves.")] = 30_000,
    shipped: Annotated[
        bool,
        typer.Option("--shipped", help="An hour with the settings as shipped; see below."),
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Worlds of --shipped, from --seed on.")
    ] = 5,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop with a real server: learn, compare, fold the log again, evaluate.

    It should show uplift_low of .10 or more, feedback_acked equal to feedback_logged,
    redrawn_mismatches and http_errors 0, propensity_max_error of 1e-6 or less, effect_lag_p95_s
    of 5 or less, and ope_estimate within 3 ope_se of true_value.

    With --shipped it serves an hour of each of several worlds in this process, with the settings as
    shipped, and asks the log about uniform, popularity, the current version and that of half an
    hour ago. It should show ope_questions_answered equal to ope_questions, intervals_holding_truth
    of 18 of 20 or more, and exploration_cost, on the same pages, of .01 or less. With --full each
    world is also served without exploration (hours_apart).
    """
    if shipped:
        from serve.bench.shipped import HourSize, run_shipped

        with steps() as advance:
            hours = run_shipped(
                HourSize(),
                seeds=seeds,
                first_seed=seed,
                now_ms=now_ms(),
                advance=advance,
                apart=full,
            )
        show(hours, as_json)
        return
    from serve.bench.loop import LoopSize, run_loop

    size = LoopSize(learn=4 * learn if full else learn, compare=4 * compare if full else compare)
    with steps() as advance:
        result = run_loop(size, seed=seed, kuairand=kuairand, now_ms=now_ms(), advance=advance)
    show(result, as_json)
