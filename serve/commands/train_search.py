"""The job behind `nextswipe train retention --by search`: arguments and printed results."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from serve.commands.settings import print_json
from serve.errors import JobError

if TYPE_CHECKING:
    from policies.training.search.settings import SearchTrainingArgs
    from serve.jobs.train_search import SearchOutcome


def require_method(road: str, options: Mapping[str, object]) -> None:
    """Refuse options that only another training method has.

    Args:
        road: method that has them.
        options: values by option name; falsy where not given.

    Raises:
        Refused: one of them was given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise JobError(f"expected --by {road} with {', '.join(given)}")


@contextmanager
def refusing() -> Iterator[None]:
    """Turn arguments that are out of range into a message."""
    try:
        yield
    except ValueError as error:
        raise JobError(str(error)) from error


def searched_args(
    preset: str,
    candidates: int,
    features: Literal["world", "feed"],
    seed: int,
    sizes: Mapping[str, int | None],
) -> "SearchTrainingArgs":
    """Return the arguments of a search.

    Args:
        features: columns that the ranker reads.
        seed: seed of all draws.
        sizes: by name in `SearchTrainingArgs`; None: its default.

    Raises:
        ValueError: a number is out of range.
    """
    from policies.training.search.settings import SearchTrainingArgs

    given = {name: size for name, size in sizes.items() if size is not None}
    return SearchTrainingArgs(preset, candidates, features, seed, **given)


def train_search(args: "SearchTrainingArgs", folder: Path, *, resume: bool, as_json: bool) -> None:
    """Train by search and print the outcome."""
    from serve.jobs.train_search import search_retention

    outcome = search_retention(args, folder, resume=resume, advance=_tell)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome)


def _tell(stage: str, done: int, total: int) -> None:
    typer.echo(f"{stage} {done}/{total}", err=True)


def _print(outcome: "SearchOutcome") -> None:
    worth = outcome.worth
    typer.echo(f"{outcome.seconds:.0f} s: {outcome.ranker}")
    typer.echo(f"{worth.users:,} users it was not trained with, {worth.days} days:")
    for lived in worth.lives:
        typer.echo(f"  {lived.policy:7} {lived.active_days:6.2f} active days, D30 {lived.d30:.3f}")
    for over, gain in (("myopic", worth.gain_over_myopic), ("chance", worth.gain_over_chance)):
        bounds = f"[{gain.low:+.1%}, {gain.high:+.1%}]"
        typer.echo(f"active days over {over}: {gain.value:+.1%} {bounds}")
    d30 = worth.d30_over_myopic
    typer.echo(f"D30 over myopic: {d30.value:+.3f} [{d30.low:+.3f}, {d30.high:+.3f}]")
