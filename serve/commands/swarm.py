"""`nextswipe swarm`: simulated people in front of a running server."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from serve.commands.progress import bar
from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    load_settings,
    now_ms,
    print_json,
)
from serve.config import Config
from serve.swarm import Tally


def register(app: typer.Typer) -> None:
    """Add the command `swarm`."""
    app.command("swarm", epilog="Example: nextswipe swarm --cards 5000")(swarm)


def swarm(
    address: Annotated[str, typer.Option("--url", help="Of the server.")] = "http://127.0.0.1:8000",
    cards: Annotated[int, typer.Option(min=1, help="To swipe.")] = 5_000,
    present: Annotated[int, typer.Option(min=1, help="People at a time.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the people's choices.")] = 1,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Let simulated people swipe a running server, as fast as it answers.

    They live in the world of the data folder: fitted to imported impressions where there are
    any, else the generated one. They tell how long they watched and do not wait for it.
    """
    settings = load_settings(config, data)
    with bar("swiping", cards) as advance:
        tally = asyncio.run(_swipe(settings, address, cards, present, seed, advance))
    if as_json:
        print_json(tally)
        return
    for name, value in msgspec.to_builtins(tally).items():
        typer.echo(f"{name:8} {value:,}")


async def _swipe(
    settings: Config,
    address: str,
    cards: int,
    present: int,
    seed: int,
    advance: Callable[[int], None],
) -> Tally:
    from env.viewer import people
    from serve.client import Client
    from serve.importing import load_world
    from serve.swarm import Swarm

    world, users = load_world(settings, seed)
    told = 0

    def tell(tally: Tally) -> None:
        nonlocal told
        advance(tally.cards - told)
        told = tally.cards

    async with Client(address) as client:
        viewers = people(world, users[: 20 * present])
        swarm = Swarm(client, viewers, seed=seed, start_ms=now_ms(), n_present=present)
        await swarm.swipe(cards, on_window=tell)
        await swarm.leave()
        return swarm.tally
