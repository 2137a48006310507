"""The command `nextswipe train retention`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serve.commands.settings import AsJson, print_json
from serve.commands.train_search import refusing, require_method, searched_args, train_search
from serve.errors import JobError

if TYPE_CHECKING:
    from policies.training.ppo.job import Progress
    from policies.training.ppo.tuning import TuningTrial
    from policies.training.settings import RetentionArgs
    from serve.jobs.train_ppo import TrainingOutcome


def train_retention(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the training: checkpoints, events and the ranker.")
    ],
    env: Annotated[
        Literal["twin", "world"],
        typer.Option(help="World: the exact small one (twin), or the full one."),
    ] = "twin",
    by: Annotated[
        Literal["search", "ppo"] | None,
        typer.Option(help="Training method; default: search in the full world, PPO in the twin."),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="Objective of PPO. twin: watch or days; world: a reward, as mix or retention."
        ),
    ] = "",
    preset: Annotated[
        str, typer.Option(help="Preset of the full world: a name or a file.")
    ] = "kuairand",
    features: Annotated[
        Literal["world", "feed"],
        typer.Option(help="Columns in the full world: its own, or those of a feed."),
    ] = "world",
    candidates: Annotated[
        int, typer.Option(min=2, help="Candidates per card in the full world.")
    ] = 20,
    horizon: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Days of a life; default: 30 in a search, 60 in the twin, else the preset's.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of lives, weights and draws.")] = 0,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users that a search learns from; default 512.")
    ] = None,
    judged: Annotated[
        int | None,
        typer.Option(min=2, help="Other users that a search's ranker is judged on; default 1,000."),
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, help="Generations of a search; default 12.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Cards for PPO; default 400,000 in the twin, else 2,000,000."),
    ] = None,
    wellbeing: Annotated[
        float,
        typer.Option(help="Penalty per minute of a visit beyond its limit (PPO, full world)."),
    ] = 0.0,
    visit_limit: Annotated[
        float, typer.Option(metavar="MINUTES", help="Length from which a visit is penalised.")
    ] = 60.0,
    night: Annotated[
        float, typer.Option(help="Penalty per minute from 0 to 5 h (PPO, full world).")
    ] = 0.0,
    most_hate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Largest share of 'not interested' cards (full world)."),
    ] = None,
    least_exposure: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Least share of cards of the less seen videos (full world)."
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Use plain PPO: its own critic, gaps as drawn.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the training in the folder.")
    ] = False,
    tune: Annotated[
        int, typer.Option(min=0, help="Try this many settings with Ray Tune instead.")
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; default: Ray runs here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a ranker for user retention, in a simulated world.

    In the full world, a search finds the weights under which simulated users have most active days,
    and clones them into a network, which is then judged on other users. With --by ppo, and in the
    twin, PPO trains a network. Needs the extra train. After a kill, --resume continues. A job of
    Ray runs on that job's cluster. Penalties and limits are PPO's, and off unless given; limits are
    judged at the end on other users.
    """
    if (by or ("search" if env == "world" else "ppo")) == "search":
        if env == "twin":
            raise JobError("expected --env world with --by search: the twin has PPO alone")
        require_method(
            "ppo",
            {
                "--objective": objective,
                "--steps": steps,
                "--wellbeing": wellbeing,
                "--night": night,
                "--most-hate": most_hate is not None,
                "--least-exposure": least_exposure is not None,
                "--plain": plain,
                "--tune": tune,
                "--address": address,
            },
        )
        sizes = {"n_users": users, "n_judged": judged, "n_generations": generations}
        with refusing():
            searched = searched_args(preset, candidates, features, seed, sizes | {"days": horizon})
        train_search(searched, folder, resume=resume, as_json=as_json)
        return
    require_method("search", {"--users": users, "--judged": judged, "--generations": generations})
    fines = {"wellbeing": wellbeing, "visit_limit_min": visit_limit, "night": night}
    limits = {"most_hate": most_hate, "least_exposure": least_exposure}
    if env == "twin":
        if wellbeing or night:
            raise JobError(
                "expected --env world with --wellbeing or --night: the twin has no clock"
            )
        args = _twin_args(objective, horizon, seed, steps, limits)
    else:
        world = {
            "preset": preset,
            "n_candidates": candidates,
            "horizon_days": horizon,
            "columns": features,
        }
        args = _world_args(objective, world, fines, seed, steps, limits)
    if plain:
        args = args.plain()
    if tune:
        _tune(args, tune, folder, address, as_json=as_json)
        return
    from serve.jobs.train_ppo import train_retention as train

    outcome = train(args, folder, resume=resume, address=address, advance=_tell)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome)


def _twin_args(
    objective: str, horizon: int | None, seed: int, steps: int | None, limits: dict[str, Any]
) -> "RetentionArgs":
    import msgspec

    from policies.training.limits import Constraints
    from policies.training.settings import RetentionArgs, TwinWorld

    named = {"objective": objective} if objective else {}
    with refusing():
        world = msgspec.convert({"type": "twin", "horizon_days": horizon or 60} | named, TwinWorld)
        args = RetentionArgs(world=world, seed=seed, limits=Constraints(**limits))
        return args if steps is None else msgspec.structs.replace(args, n_steps=steps)


def _world_args(
    objective: str,
    world: dict[str, Any],
    fines: dict[str, float],
    seed: int,
    steps: int | None,
    limits: dict[str, Any],
) -> "RetentionArgs":
    from env.world.objective import Objective
    from policies.training.limits import Constraints
    from policies.training.settings import FeedWorld, RetentionArgs

    with refusing():
        counted = Objective(objective or "mix", **fines)  # type: ignore[arg-type]  # it checks
        feed = FeedWorld(objective=counted, **world)
        return RetentionArgs.of_feed(
            feed, seed=seed, n_steps=steps or 2_000_000, limits=Constraints(**limits)
        )


def _tune(
    args: "RetentionArgs", n_trials: int, folder: Path, address: str | None, *, as_json: bool
) -> None:
    from policies.training.ppo.tuning import tune_retention

    trials = tune_retention(args, n_trials, folder, address=address)
    if as_json:
        print_json(trials)
        return
    for trial in trials:
        typer.echo(_describe(trial))


def _describe(trial: "TuningTrial") -> str:
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in sorted(trial.numbers.items()))
    return f"{trial.life_return:12,.2f} a life  {numbers}"


def _tell(progress: "Progress") -> None:
    typer.echo(
        f"iteration {progress.iteration}/{progress.n_iterations}: {progress.n_steps:,} cards, "
        f"{progress.seconds:.0f} s, {progress.episode_return:,.2f} a life, "
        f"entropy {progress.entropy:.3f}"
        + "".join(
            f", {held.name} {held.share:.5f} at {held.multiplier:.3f}" for held in progress.limits
        ),
        err=True,
    )


def _print(outcome: "TrainingOutcome") -> None:
    typer.echo(f"{outcome.n_steps:,} cards in {outcome.seconds:.0f} s: {outcome.ranker}")
    for kept in outcome.limits:
        typer.echo(
            f"{kept.name} {kept.bound:g}: {'met' if kept.is_met else 'not met'}, "
            f"{kept.share.value:.5f} ± {kept.share.se:.5f} of the cards of other users, "
            f"multiplier {kept.multiplier:.3f}"
        )
    if outcome.grade is not None:
        typer.echo(
            f"of the way from myopic to the optimum: {outcome.grade.served:.3f} as served, "
            f"{outcome.grade.greedy:.3f} greedy"
        )
