"""The commands `nextswipe train retention search`, `ppo` and `twin`: one for each method."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from serve.commands.settings import AsJson, print_json
from serve.errors import JobError

if TYPE_CHECKING:
    from policies.training.ppo.job import Progress
    from policies.training.ppo.tuning import TuningTrial
    from policies.training.settings import RetentionArgs

TrainingFolder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Folder of the training: checkpoints, events and the ranker."
    ),
]

Preset = Annotated[str, typer.Option(help="Preset of the world: a name or a file.")]

Columns = Annotated[
    Literal["world", "feed"],
    typer.Option("--features", help="Columns: the world's own, or those of a feed."),
]

CandidateCount = Annotated[int, typer.Option("--candidates", min=2, help="Candidates per card.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of lives, weights and draws.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the training in the folder.")]

PlainPpo = Annotated[
    bool, typer.Option("--plain", help="Use plain PPO: its own critic, gaps as drawn.")
]

TrialCount = Annotated[
    int,
    typer.Option("--tune", min=0, help="Number of settings to try with Ray Tune; 0: train once."),
]

RayAddress = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster; default: Ray runs here.")
]


def register_retention(train: typer.Typer) -> None:
    """Add the group `retention`."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Train a ranker for user retention, in a simulated world (extra: train).",
    )
    example = "Example: nextswipe train retention"
    group.command("search", epilog=f"{example} search training --features feed")(train_search)
    group.command("ppo", epilog=f"{example} ppo training --features feed --night 0.2")(train_ppo)
    group.command("twin", epilog=f"{example} twin training --objective days")(train_twin)
    train.add_typer(group, name="retention")


def train_search(
    folder: TrainingFolder,
    preset: Preset = "kuairand",
    features: Columns = "world",
    candidates: CandidateCount = 20,
    horizon: Annotated[int, typer.Option(min=1, help="Days of a life.")] = 30,
    seed: Seed = 0,
    users: Annotated[int, typer.Option(min=1, help="Number of users to learn from.")] = 512,
    judged: Annotated[
        int, typer.Option(min=2, help="Number of other users to judge the ranker by.")
    ] = 1_000,
    generations: Annotated[int, typer.Option(min=1, help="Number of generations.")] = 12,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Search ranking weights in the full world, and clone them into a network.

    The search finds the weights under which simulated users have most active days. The network is
    judged on other users. After a kill, --resume continues.
    """
    from policies.training.search.settings import SearchTrainingArgs
    from serve.jobs.train_search import search_retention

    with refusing():
        args = SearchTrainingArgs(
            preset,
            candidates,
            features,
            seed,
            n_users=users,
            n_judged=judged,
            n_generations=generations,
            days=horizon,
        )
    outcome = search_retention(args, folder, resume=resume, advance=_tell_search)
    if as_json:
        print_json(outcome)
    else:
        typer.echo("\n".join(outcome.lines()))


def train_ppo(
    context: typer.Context,
    folder: TrainingFolder,
    objective: Annotated[str, typer.Option(help="Reward, as mix or retention.")] = "mix",
    preset: Preset = "kuairand",
    features: Columns = "world",
    own: Annotated[
        str | None,
        typer.Option("--env", metavar="MODULE:FUNCTION", help="World of one's own, in its place."),
    ] = None,
    candidates: CandidateCount = 20,
    horizon: Annotated[
        int | None, typer.Option(min=1, help="Days of a life; default: the preset's.")
    ] = None,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=1, help="Number of cards.")] = 2_000_000,
    wellbeing: Annotated[
        float, typer.Option(help="Penalty per minute of a visit beyond its limit.")
    ] = 0.0,
    visit_limit: Annotated[
        float, typer.Option(metavar="MINUTES", help="Length from which a visit is penalised.")
    ] = 60.0,
    night: Annotated[float, typer.Option(help="Penalty per minute from 0 to 5 h.")] = 0.0,
    most_hate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Largest share of 'not interested' cards."),
    ] = None,
    least_exposure: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Least share of cards of the less seen videos."),
    ] = None,
    plain: PlainPpo = False,
    resume: Resume = False,
    tune: TrialCount = 0,
    address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Train a network by PPO in the full world, with penalties and limits.

    Both are off unless given; limits are judged at the end on other users. --env names a function
    that makes a world of one's own, looked for in the current folder first. After a kill, --resume
    continues. A job of Ray runs on that job's cluster.
    """
    from env.world.objective import Objective
    from policies.training.custom_world import name_world
    from policies.training.limits import Constraints
    from policies.training.settings import FeedWorld, RetentionArgs

    with refusing():
        limits = Constraints(most_hate=most_hate, least_exposure=least_exposure)
    if own is not None:
        _refuse_given(context, own)
        with refusing():
            args = RetentionArgs.of_feed(name_world(own), seed=seed, n_steps=steps, limits=limits)
        args = args.plain() if plain else args
        _train(args, folder, tune, address, resume=resume, as_json=as_json)
        return
    with refusing():
        counted = Objective(
            objective,  # type: ignore[arg-type]  # it checks
            wellbeing=wellbeing,
            visit_limit_min=visit_limit,
            night=night,
        )
        world = FeedWorld(
            objective=counted,
            preset=preset,
            n_candidates=candidates,
            horizon_days=horizon,
            columns=features,
        )
        args = RetentionArgs.of_feed(world, seed=seed, n_steps=steps, limits=limits)
    args = args.plain() if plain else args
    _train(args, folder, tune, address, resume=resume, as_json=as_json)


_OF_OUR_WORLD = (
    "objective",
    "preset",
    "features",
    "candidates",
    "horizon",
    "wellbeing",
    "visit_limit",
    "night",
)


def _refuse_given(context: typer.Context, own: str) -> None:
    """Raise a `JobError` for options that say how our world is, where it is not used."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in _OF_OUR_WORLD
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    if given:
        raise JobError(f"expected --env without {', '.join(given)}: {own} says how its world is")


def train_twin(
    folder: TrainingFolder,
    objective: Annotated[str, typer.Option(help="Reward: watch or days.")] = "watch",
    horizon: Annotated[int, typer.Option(min=1, help="Days of a life.")] = 60,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=1, help="Number of cards.")] = 400_000,
    plain: PlainPpo = False,
    resume: Resume = False,
    tune: TrialCount = 0,
    address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Train a network by PPO in the twin, the small world whose optimum is known.

    The result is graded: 0 for what is watched longest now, 1 for the optimum. After a kill,
    --resume continues. A job of Ray runs on that job's cluster.
    """
    from policies.training.settings import RetentionArgs, TwinWorld

    told = {"type": "twin", "horizon_days": horizon, "objective": objective}
    with refusing():
        args = RetentionArgs(world=msgspec.convert(told, TwinWorld), seed=seed, n_steps=steps)
    args = args.plain() if plain else args
    _train(args, folder, tune, address, resume=resume, as_json=as_json)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn arguments that are out of range into a message."""
    try:
        yield
    except ValueError as error:
        raise JobError(str(error)) from error


def _train(
    args: "RetentionArgs",
    folder: Path,
    n_trials: int,
    address: str | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    if n_trials:
        _tune(args, n_trials, folder, address, as_json=as_json)
        return
    from serve.jobs.train_ppo import train_retention

    outcome = train_retention(args, folder, resume=resume, address=address, advance=_tell)
    if as_json:
        print_json(outcome)
    else:
        typer.echo("\n".join(outcome.lines()))


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


def _tell_search(stage: str, done: int, total: int) -> None:
    typer.echo(f"{stage} {done}/{total}", err=True)
