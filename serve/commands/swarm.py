"""`nextswipe swarm`: simulated people in front of a running server."""

import asyncio
from typing import Annotated

import msgspec
import typer

from serve.clock import now_ms
from serve.commands.progress import bar
from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json
from serve.config import Config
from serve.refused import Refused

N_CARDS, N_PRESENT, N_PEOPLE = 5_000, 100, 500
PRESET = "kuairand"
DAY_MS = 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command `swarm`."""
    app.command("swarm", epilog="Example: nextswipe swarm --cards 5000")(swarm)


def swarm(
    address: Annotated[str, typer.Option("--url", help="Of the server.")] = "http://127.0.0.1:8000",
    cards: Annotated[
        int | None, typer.Option(min=1, help=f"To swipe; {N_CARDS:,} if not given.")
    ] = None,
    present: Annotated[
        int | None, typer.Option(min=1, help=f"People at a time; {N_PRESENT} if not given.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Live so many days instead, by the world's calendar.")
    ] = None,
    people: Annotated[
        int | None, typer.Option(min=1, help=f"Who live them; {N_PEOPLE} if not given.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"How these leave and return: daily, {PRESET} (if not given) or a preset's file.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the people's choices.")] = 1,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Let simulated people swipe a running server, as fast as it answers.

    They live in the world of the data folder: fitted to imported impressions where there are
    any, else the generated one. They tell how long they watched and do not wait for it. Without
    --days as many as asked for are there all the time. With it each comes at their hours, leaves,
    and comes back days later or never; the server must have a simulated clock for that
    (clock.simulated = true).
    """
    settings = load_settings(config, data)
    if days is None:
        if people is not None or preset is not None:
            raise Refused("expected --people and --preset together with --days, got no --days")
        _swipe(settings, address, cards or N_CARDS, present or N_PRESENT, seed, as_json)
    elif cards is not None or present is not None:
        raise Refused("expected --days without --cards and --present: people come as they please")
    else:
        _live(settings, address, days, people or N_PEOPLE, preset or PRESET, seed, as_json)


def _swipe(
    settings: Config, address: str, cards: int, present: int, seed: int, as_json: bool
) -> None:
    from serve.swarming import swipe_cards

    with bar("swiping", cards) as advance:
        swiping = swipe_cards(
            settings,
            address,
            n_cards=cards,
            n_present=present,
            seed=seed,
            now_ms=now_ms(),
            advance=advance,
        )
        tally = asyncio.run(swiping)
    if as_json:
        print_json(tally)
    else:
        _show(tally)


def _live(
    settings: Config, address: str, days: int, people: int, preset: str, seed: int, as_json: bool
) -> None:
    from serve.swarming import live_days

    with bar("living", days * DAY_MS) as advance:
        living = live_days(
            settings,
            address,
            n_days=days,
            n_people=people,
            preset=preset,
            seed=seed,
            now_ms=now_ms(),
            advance=advance,
        )
        lived = asyncio.run(living)
    if as_json:
        print_json(lived)
    else:
        _show(lived.calendar)
        _show(lived.requests)


def _show(told: object) -> None:
    """Print a line a figure."""
    for name, value in msgspec.to_builtins(told).items():
        match value:
            case tuple() | list():
                shown = " ".join(f"{n:,}" for n in value)
            case float():
                shown = f"{value:,.3f}"
            case None:
                shown = "not known"
            case _:
                shown = f"{value:,}"
        typer.echo(f"{name:13} {shown}")
