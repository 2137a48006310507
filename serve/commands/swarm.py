"""The command `nextswipe swarm`, which lets simulated users swipe a running server."""

import asyncio
from typing import Annotated

import msgspec
import typer

from serve.clock import now_ms
from serve.commands.settings import AsJson, ConfigFile, DataFolder, bar, load_settings, print_json
from serve.config import Config, ServerSettings
from serve.errors import JobError
from serve.processes.edge import authority

N_CARDS, N_PRESENT, N_PEOPLE = 5_000, 100, 500
PRESET = "kuairand"
DAY_MS = 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command `swarm`."""
    app.command("swarm", epilog="Example: nextswipe swarm --cards 5000")(swarm)


def swarm(
    url: Annotated[
        str | None,
        typer.Option("--url", help="Address of the server; default: as the settings have it."),
    ] = None,
    cards: Annotated[
        int | None, typer.Option(min=1, help=f"Cards to swipe; default {N_CARDS:,}.")
    ] = None,
    present: Annotated[
        int | None, typer.Option(min=1, help=f"Users present at a time; default {N_PRESENT}.")
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, help="Simulate this many days instead, by the world's calendar."),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help=f"Users with --days; default {N_PEOPLE}.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"How users leave and return with --days: daily, {PRESET} (default) or a file.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the users' choices.")] = 1,
    key: Annotated[
        str,
        typer.Option(
            envvar="NEXTSWIPE_KEY", help="API key; default: one that the data folder vouches for."
        ),
    ] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Let simulated users swipe a running server, as fast as it answers.

    They live in the world of the data folder: fitted to imported impressions where there are any,
    else the generated one. They report how long they watched without waiting for it. Without --days
    a fixed number is always present. With --days each user comes at their own hours, leaves, and
    comes back days later or never; the server then needs a simulated clock (clock.simulated =
    true).
    """
    settings = load_settings(config, data)
    address = url or _address_of(settings.server)
    if days is None:
        if users is not None or preset is not None:
            raise JobError("expected --users and --preset together with --days, got no --days")
        _swipe(settings, address, cards or N_CARDS, present or N_PRESENT, seed, key, as_json)
    elif cards is not None or present is not None:
        raise JobError("expected --days without --cards and --present: users come as they please")
    else:
        _live(settings, address, days, users or N_PEOPLE, preset or PRESET, seed, key, as_json)


def _address_of(server: ServerSettings) -> str:
    """Return the address at which a server with these settings is reached on its own machine.

    Raises:
        JobError: the server takes a free port, which only it knows.
    """
    if server.port == 0:
        raise JobError("expected --url: with server.port = 0 the server says its address itself")
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104
    return f"http://{authority(msgspec.structs.replace(server, host=here))}"


def _swipe(
    settings: Config, address: str, cards: int, present: int, seed: int, key: str, as_json: bool
) -> None:
    from serve.swarm.run import swipe_cards

    with bar("swiping", cards) as advance:
        swiping = swipe_cards(
            settings,
            address,
            n_cards=cards,
            n_present=present,
            seed=seed,
            now_ms=now_ms(),
            advance=advance,
            key=key,
        )
        tally = asyncio.run(swiping)
    if as_json:
        print_json(tally)
    else:
        _show(tally)


def _live(
    settings: Config,
    address: str,
    days: int,
    users: int,
    preset: str,
    seed: int,
    key: str,
    as_json: bool,
) -> None:
    from serve.swarm.run import live_days

    with bar("living", days * DAY_MS) as advance:
        living = live_days(
            settings,
            address,
            n_days=days,
            n_users=users,
            preset=preset,
            seed=seed,
            now_ms=now_ms(),
            advance=advance,
            key=key,
        )
        lived = asyncio.run(living)
    if as_json:
        print_json(lived)
    else:
        _show(lived.calendar)
        _show(lived.requests)


def _show(told: object) -> None:
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
