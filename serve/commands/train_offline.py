"""The command `nextswipe train offline`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json, steps
from serve.errors import JobError

EXAMPLE = "Example: nextswipe train offline training --method iql --holdout 0.4"


def train_offline(
    folder: Annotated[Path, typer.Argument(help="Folder to write the ranker to.")],
    method: Annotated[
        Literal["bc", "marwil", "iql", "cql"],
        typer.Option(
            help="Method: bc, marwil, or Q-learning: iql (expectile), cql (conservative)."
        ),
    ] = "iql",
    holdout: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of the users to judge by.")
    ] = 0.4,
    return_worth: Annotated[
        float, typer.Option(min=0.0, help="Reward of a return, per unit of .97 ** days.")
    ] = 20.0,
    window_days: Annotated[
        int, typer.Option(min=1, help="Longest absence, in days, that counts as a return.")
    ] = 7,
    credit: Annotated[
        Literal["session", "life"],
        typer.Option(help="Credit of a card: its session and the return, or the whole life."),
    ] = "session",
    kl: Annotated[
        float, typer.Option(min=0.001, max=0.2, help="Largest distance from the log, nats a card.")
    ] = 0.1,
    min_ess: Annotated[
        float, typer.Option(min=1.0, help="Least effective sample size, in decisions.")
    ] = 500.0,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Make it current if it passes; a running server follows."),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split, the weights and the draws.")
    ] = 0,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Train a ranker from the log's user histories; keep it if other users' show that it is better.

    Exit code 1: it was not kept; the failed gate is printed. A server may be running.
    """
    from env.pages.lives import LifeReward
    from policies.training.offline.settings import OfflineArgs
    from replay.evaluate.gates import Gates
    from serve.jobs.train_offline import OfflineGate
    from serve.jobs.train_offline import train_offline as train

    try:
        import policies.training.offline.job  # noqa: F401  # torch and RLlib, before a log is read
    except ImportError as error:
        raise JobError(
            'training comes with the extra "train": make install EXTRAS=train'
        ) from error
    args = OfflineArgs(
        method=method,
        credit=credit,
        kl=kl,
        seed=seed,
        reward=LifeReward(return_worth=return_worth, window_days=window_days),
    )
    with steps() as advance:
        result = train(
            load_settings(config, data),
            args,
            folder,
            holdout=holdout,
            publish=publish,
            gate=OfflineGate(Gates(min_ess=min_ess)),
            advance=advance,
        )
    if as_json:
        print_json(result)
    else:
        typer.echo("\n".join(result.lines()))
    if result.ranker is None:
        raise typer.Exit(1)
