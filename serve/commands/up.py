"""The command `nextswipe up`: the server on this machine, with simulated users if it is new."""

import asyncio
import contextlib
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from serve.clock import now_ms
from serve.commands.settings import ConfigFile, DataFolder, StoreUrl, load_settings
from serve.config import Config

if TYPE_CHECKING:
    from env.vocabulary import ItemId

N_ITEMS = 2_000
PRESENT = 40
CARDS_AT_ONCE = 20
PAUSE_S = 0.5
REFRESH_S = 0.5
EXAMPLE = "Example: nextswipe up --data ./data"


def register(app: typer.Typer) -> None:
    """Add the command `up`."""
    app.command("up", epilog=EXAMPLE)(up)


def up(
    viewers: Annotated[
        bool | None,
        typer.Option(
            "--viewers/--no-viewers",
            help="Run simulated users too; by default with a generated catalogue only.",
        ),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray/--no-ray", help="Run under Ray Serve, or the same app under plain uvicorn."
        ),
    ] = True,
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Run the feed on this machine until Ctrl-C.

    A data folder without items gets a generated catalogue and some simulated users who swipe it, so
    that there is something to see: open the page and swipe along. A folder that is already served
    is refused.
    """
    from serve.data_folder import sole_server

    settings = load_settings(config, data, store)
    with sole_server(settings, now_ms()):
        _serve(settings, viewers=viewers, with_ray=ray)


def _serve(settings: Config, *, viewers: bool | None, with_ray: bool) -> None:
    """Run the feed until Ctrl-C, with a catalogue where there is none."""
    from serve.serving import serving

    if _is_empty(settings):
        _generate(settings)
    with_viewers = _is_generated(settings) if viewers is None else viewers
    typer.echo(f"starting {'Ray Serve' if with_ray else 'the server'} ...")
    stopped = (KeyboardInterrupt, asyncio.CancelledError)
    with contextlib.suppress(*stopped), serving(settings, with_ray=with_ray) as address:
        signal.signal(signal.SIGTERM, _stop)  # Ray has put its own
        typer.echo(f"the feed is served at {address}: open it and swipe; Ctrl-C stops it")
        try:
            asyncio.run(_watch(settings, address, with_viewers))
        finally:
            signal.signal(signal.SIGTERM, _stop)  # the loop's handler went with the loop
    typer.echo("stopped")


async def _watch(settings: Config, address: str, with_viewers: bool) -> None:
    """Show live figures, with or without simulated users, until the server is stopped."""
    from rich.live import Live

    from serve.live import Figures

    # Raising in the middle of whatever runs would leave a read of the database open.
    watching = asyncio.current_task()
    if watching is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, watching.cancel)
    figures = Figures(settings, now_ms)
    viewing = asyncio.create_task(_view(settings, address)) if with_viewers else None
    try:
        with Live(figures.table(), refresh_per_second=4, transient=True) as live:
            while True:
                await asyncio.sleep(REFRESH_S)
                live.update(await asyncio.to_thread(figures.table))
                if viewing is not None and viewing.done():
                    live.console.print(f"the viewers have left: {viewing.exception()}")
                    viewing = None
    finally:
        if viewing is not None:
            viewing.cancel()
        figures.close()


async def _view(settings: Config, address: str) -> None:
    """Let a few simulated users swipe for as long as the server runs.

    A `Rush` keeps some present at all times. They skip items uploaded after they came, so the swarm
    never restarts.
    """
    from env.viewer import people
    from serve.attendance import Rush
    from serve.client import Client
    from serve.importing import load_world
    from serve.swarm import Swarm

    world, users = await asyncio.to_thread(load_world, settings, 1)
    viewers = people(world, users[: 20 * PRESENT])
    async with Client(address) as client:
        swarm = Swarm(client, Rush(viewers, PRESENT), seed=now_ms(), start_ms=now_ms())
        while True:
            await swarm.swipe(CARDS_AT_ONCE)
            await asyncio.sleep(PAUSE_S)


def _is_empty(settings: Config) -> bool:
    """Return whether there is no item; creates a missing data folder."""
    return not _item_ids(settings)


def _is_generated(settings: Config) -> bool:
    """Return whether the catalogue holds only generated items."""
    from env import generated

    return _item_ids(settings) <= {item.item_id for item in generated.catalogue(1, N_ITEMS, 0)}


def _item_ids(settings: Config) -> "set[ItemId]":
    from serve.data_folder import open_data

    with open_data(settings, must_exist=False) as store, store.view() as view:
        return view.item_ids()


def _generate(settings: Config) -> None:
    from env import generated
    from serve.importing import import_items

    counts = import_items(settings, generated.catalogue(1, N_ITEMS, now_ms()), now_ms())
    typer.echo(f"{Path(settings.data.folder)}: a generated catalogue, {counts.new:,} items")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that no process is left behind."""
    raise KeyboardInterrupt
