"""`nextswipe train retention --by search`: what is asked of the search, and what is told of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from serve.commands.settings import print_json
from serve.refused import Refused

if TYPE_CHECKING:
    from policies.retention.search_args import SearchedArgs
    from serve.retention_searching import SearchOutcome


def require_road(road: str, options: Mapping[str, object]) -> None:
    """Refuse options that only another road has.

    Args:
        road: that has them.
        options: what was given, by name; nothing, or what is false, where it was not.

    Raises:
        Refused: one of them was given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise Refused(f"expected --by {road} with {', '.join(given)}")


@contextmanager
def refusing() -> Iterator[None]:
    """Tell of arguments that are out of range in words."""
    try:
        yield
    except ValueError as error:
        raise Refused(str(error)) from error


def searched_args(
    preset: str,
    candidates: int,
    features: Literal["world", "feed"],
    seed: int,
    sizes: Mapping[str, int | None],
) -> "SearchedArgs":
    """Return the arguments of a search.

    Args:
        preset: constants of the world.
        candidates: from how many is chosen.
        features: the columns that the ranker reads.
        seed: of all that is drawn.
        sizes: by their names in `SearchedArgs`; as they are there where None.

    Raises:
        ValueError: a number is out of range.
    """
    from policies.retention.search_args import SearchedArgs

    given = {name: size for name, size in sizes.items() if size is not None}
    return SearchedArgs(preset, candidates, features, seed, **given)


def train_search(args: "SearchedArgs", folder: Path, *, resume: bool, as_json: bool) -> None:
    """Train by search and say what came of it."""
    from serve.retention_searching import search_retention

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
    typer.echo(f"{worth.people:,} people it was not trained with, {worth.days} days:")
    for lived in worth.lives:
        typer.echo(f"  {lived.policy:7} {lived.active_days:6.2f} active days, D30 {lived.d30:.3f}")
    for over, gain in (("myopic", worth.gain_over_myopic), ("chance", worth.gain_over_chance)):
        bounds = f"[{gain.low:+.1%}, {gain.high:+.1%}]"
        typer.echo(f"active days over {over}: {gain.value:+.1%} {bounds}")
    d30 = worth.d30_over_myopic
    typer.echo(f"D30 over myopic: {d30.value:+.3f} [{d30.low:+.3f}, {d30.high:+.3f}]")
