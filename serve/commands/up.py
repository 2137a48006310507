"""The command `nextswipe up`: the server on this machine, with simulated users if it is new."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from rich.table import Table

from env.records import FeedbackRecord, PageRecord
from env.reward import is_censored, is_valid_play
from env.vocabulary import Interaction
from replay.join.join import Join
from serve.clock import now_ms
from serve.commands.settings import (
    ConfigFile,
    DataFolder,
    Host,
    Port,
    StoreUrl,
    listening_at,
    load_settings,
)
from serve.config import Config, LogLevel, LogSettings
from serve.store.generations import current_version
from serve.store.open import find_kind, open_store

if TYPE_CHECKING:
    from env.vocabulary import ItemId


logger = logging.getLogger(__name__)
RECENT = 1_000
MAX_LINES = 5_000


class Figures:
    """Follows the log and sums up its events since the start."""

    def __init__(self, config: Config, now_ms: Callable[[], int]) -> None:
        """Start at the end of the log of the data folder."""
        self._store = open_store(config, now_ms)
        self._log = self._store.log
        self._now_ms = now_ms
        self._began_ms = now_ms()
        self._join = Join(config.reward, settle_ms=config.join.settle_ms)
        self._offset = self._log.last_offset()
        self._first: list[Interaction] = []
        self._recent: deque[Interaction] = deque(maxlen=RECENT)
        self._n_pages = 0
        self._n_events = 0
        self._version = 0
        self._reading = threading.Lock()
        self._closed = False

    def table(self) -> Table:
        """Read new log lines and return the present figures; thread-safe.

        After `close`, the figures of the last read are returned.
        """
        with self._reading:
            if not self._closed:
                self._read()
            return self._table()

    def close(self) -> None:
        """Close the store, after any read in progress."""
        with self._reading:
            self._closed = True
            self._store.close()

    def _table(self) -> Table:
        elapsed_s = max((self._now_ms() - self._began_ms) / 1000, 1e-3)
        table = Table(title="nextswipe", show_header=False)
        table.add_row("pages", f"{self._n_pages:,}", f"{self._n_pages / elapsed_s:.1f} a second")
        table.add_row("events", f"{self._n_events:,}", f"{self._n_events / elapsed_s:.1f} a second")
        table.add_row("model", f"version {self._version}", "")
        table.add_row(
            f"reward a card, first {len(self._first):,}", _mean_reward(self._first), "at the start"
        )
        table.add_row(
            f"reward a card, last {len(self._recent):,}",
            _mean_reward(self._recent),
            f"{_play_rate(self._recent)} watched beyond 7 s",
        )
        return table

    def _read(self) -> None:
        version = current_version(self._store)
        self._version = 0 if version is None else version.version
        for line in self._log.read(self._offset, MAX_LINES):
            self._offset = line.offset
            self._n_pages += isinstance(line.record, PageRecord)
            self._n_events += isinstance(line.record, FeedbackRecord)
            for interaction in self._join.fold(line.record):
                if not is_censored(interaction.feedback, interaction.duration_s):
                    self._recent.append(interaction)
                    if len(self._first) < RECENT:
                        self._first.append(interaction)


def _mean_reward(interactions: "deque[Interaction] | list[Interaction]") -> str:
    if not interactions:
        return "none yet"
    return f"{sum(i.reward for i in interactions) / len(interactions):.3f}"


def _play_rate(interactions: "deque[Interaction] | list[Interaction]") -> str:
    if not interactions:
        return "none"
    plays = sum(is_valid_play(i.feedback.dwell_s, i.duration_s) for i in interactions)
    return f"{plays / len(interactions):.0%}"


N_ITEMS = 2_000
PRESENT = 40
N_VIEWERS = 20 * PRESENT
CARDS_AT_ONCE = 20
PAUSE_S = 0.5
REFRESH_S = 0.5
EXAMPLE = "Example: nextswipe up --data ./data"


def register(app: typer.Typer) -> None:
    """Add the command `up`."""
    app.command("up", epilog=EXAMPLE)(up)


def up(
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--swarm/--no-swarm",
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
    host: Host = None,
    port: Port = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Least level of log lines; overrides the settings.")
    ] = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Write each log line as one JSON object.")
    ] = False,
) -> None:
    """Run the feed on this machine until Ctrl-C.

    A data folder without items gets a generated catalogue and some simulated users who swipe it, so
    that there is something to see: open the page and swipe along. A folder that is already served
    is refused, as is a machine on which the server could not run (see nextswipe doctor). While it
    starts, the port answers 503.
    """
    from serve.access.exposure import require_guarded
    from serve.processes.doctor import require_startable
    from serve.processes.logs import collecting
    from serve.store.data_folder import open_data, sole_server

    settings = listening_at(load_settings(config, data, store), host, port)
    settings = _logging(settings, log_level, log_json=log_json)
    with sole_server(settings, now_ms(), lost=_give_up) as say, collecting(settings.log):
        require_startable(settings, with_ray=ray)
        with open_data(settings, must_exist=False) as opened:
            require_guarded(settings, opened, now_ms())
        _serve(settings, say, simulated=simulated, with_ray=ray)


def _give_up(reason: str) -> None:
    """End the program as SIGTERM would: another server has the store."""
    logger.error("stopping: %s", reason)
    os.kill(os.getpid(), signal.SIGTERM)


def _logging(settings: Config, level: LogLevel | None, *, log_json: bool) -> Config:
    log = settings.log
    log = LogSettings(level or log.level, "json" if log_json else log.form)
    return msgspec.structs.replace(settings, log=log)


def _serve(
    settings: Config, say: Callable[[str], None], *, simulated: bool | None, with_ray: bool
) -> None:
    """Run the feed until Ctrl-C, with a catalogue where there is none."""
    from serve.processes.start import opening, serving_behind

    stopped = (KeyboardInterrupt, asyncio.CancelledError)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(*stopped))
        door = stack.enter_context(opening(settings, with_ray=with_ray))
        say(door.address)
        if _is_empty(settings):
            _generate(settings)
        with_viewers = _is_generated(settings) if simulated is None else simulated
        typer.echo(f"starting {'Ray Serve' if with_ray else 'the server'} ...")
        address = stack.enter_context(serving_behind(door, settings, with_ray=with_ray))
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
                    live.console.print(f"the simulated have left: {viewing.exception()}")
                    viewing = None
    finally:
        if viewing is not None:
            viewing.cancel()
        figures.close()


async def _view(settings: Config, address: str) -> None:
    """Let a few simulated users swipe for as long as the server runs.

    A `ConstantAttendance` keeps some present at all times. They skip items uploaded after they
    came, so the swarm never restarts.
    """
    from env.world.user import simulated_users
    from serve.access.callers import operator_token
    from serve.jobs.import_data import load_world
    from serve.swarm.attendance import ConstantAttendance
    from serve.swarm.swarm import Swarm
    from serve.wire.client import FeedClient

    world, accounts = await asyncio.to_thread(load_world, settings, 1)
    simulated = simulated_users(world, accounts[:N_VIEWERS])
    folder = Path(settings.data.folder)
    async with FeedClient(address, key=lambda: operator_token(folder, now_ms())) as client:
        swarm = Swarm(
            client, ConstantAttendance(simulated, PRESENT), seed=now_ms(), start_ms=now_ms()
        )
        while True:
            await swarm.swipe(CARDS_AT_ONCE)
            await asyncio.sleep(PAUSE_S)


def _is_empty(settings: Config) -> bool:
    """Return whether there is no item; creates a missing data folder."""
    return not _item_ids(settings)


def _is_generated(settings: Config) -> bool:
    """Return whether the catalogue holds generated items, and no others."""
    from env.world import generated

    there = _item_ids(settings)
    known = {item.item_id for item in generated.catalogue(1, N_ITEMS, 0)}
    return bool(there) and there <= known


def _item_ids(settings: Config) -> "set[ItemId]":
    from serve.store.data_folder import open_data

    with open_data(settings, must_exist=False) as store, store.view() as view:
        return view.item_ids()


def _generate(settings: Config) -> None:
    from env.world.generated import catalogue
    from env.world.titles import dressed
    from serve.jobs.import_data import import_items, import_users, load_world

    counts = import_items(settings, dressed(catalogue(1, N_ITEMS, now_ms())), now_ms())
    if find_kind(settings.store).takes_imports:  # elsewhere they register as they come
        import_users(settings, load_world(settings, 1)[1][:N_VIEWERS], now_ms())
    typer.echo(f"{Path(settings.data.folder)}: a generated catalogue, {counts.new:,} items")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that no process is left behind."""
    raise KeyboardInterrupt
