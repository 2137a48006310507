"""The jobs of `nextswipe swarm`: a data folder's simulated users swipe a running server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from env.world import presets
from env.world.presets import Preset
from env.world.user import simulated_users
from serve.access.callers import operator_token
from serve.clock import now_ms as wall_ms
from serve.config import Config
from serve.errors import JobError
from serve.jobs.import_data import load_world
from serve.store.data_folder import open_data
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.calendar import CalendarReport, WorldCalendar
from serve.swarm.swarm import Swarm, SwarmTally
from serve.wire.client import FeedClient

Advance = Callable[[int], None]
CONNECT_S = 2.0
CALENDAR_WINDOW_MS = 10_000
"""Few users are present at a time, and each window costs a request on disk: windows are long."""


class SimulatedDays(msgspec.Struct, frozen=True):
    """Result of simulated days: the users' behaviour, and the requests to the server."""

    calendar: CalendarReport
    requests: SwarmTally


async def swipe_cards(
    config: Config,
    address: str,
    *,
    n_cards: int,
    n_present: int,
    seed: int,
    now_ms: int,
    advance: Advance,
    key: str = "",
) -> SwarmTally:
    """Let a fixed number of simulated accounts swipe as a load, until `n_cards` were shown.

    Args:
        config: names the data folder, with the accounts' world.
        n_present: accounts at a time.
        seed: seed of the world and of the accounts' choices.
        advance: called with the number of cards swiped since the last call.
        key: API key; empty: the one that the data folder's own commands may use.

    Raises:
        NothingToShowError: the server returned nothing to show for too long.
    """
    await require_server(address)
    world, accounts = load_world(config, seed)
    rush = ConstantAttendance(simulated_users(world, accounts[: 20 * n_present]), n_present)
    told = 0

    def tell(tally: SwarmTally) -> None:
        nonlocal told
        advance(tally.cards - told)
        told = tally.cards

    async with FeedClient(address, key=key or _own_key(config)) as client:
        swarm = Swarm(client, rush, seed=seed, start_ms=now_ms)
        await swarm.swipe(n_cards, on_window=tell)
        await swarm.leave()
        return swarm.tally


async def live_days(
    config: Config,
    address: str,
    *,
    n_days: int,
    n_users: int,
    preset: str,
    seed: int,
    now_ms: int,
    advance: Advance,
    key: str = "",
) -> SimulatedDays:
    """Let simulated accounts live by the calendar of their world.

    Args:
        config: also the server's; names the data folder, with a simulated clock.
        n_users: accounts at a time.
        preset: how they change, leave and return; see `env.world.presets.load`.
        seed: seed of the world and of the accounts' choices.
        now_ms: wall clock; the days begin then, or after the last log line.
        advance: called with the simulated milliseconds since the last call.
        key: as `swipe_cards` has it.

    Raises:
        NothingToShowError: the server returned nothing to show for too long.
        JobError: the clock is real, there is no such preset, or there are too few accounts.
    """
    if not config.clock.simulated:
        raise JobError(
            "days need a simulated clock: expected clock.simulated = true in the settings that "
            "the server and the swarm are given"
        )
    world, accounts = load_world(config, seed, _load(preset))
    if len(accounts) < n_users:
        raise JobError(f"expected at most {len(accounts):,} users, as many as there are to play")
    await require_server(address)
    calendar = WorldCalendar(world, accounts[:n_users], n_days=n_days)
    async with FeedClient(address, key=key or _own_key(config)) as client:
        start_ms = max(now_ms, _last_ms(config) + 1)
        swarm = Swarm(client, calendar, seed=seed, start_ms=start_ms, window_ms=CALENDAR_WINDOW_MS)
        told_ms = start_ms

        def tell(_: SwarmTally) -> None:
            nonlocal told_ms
            advance(swarm.clock_ms - told_ms)
            told_ms = swarm.clock_ms

        await swarm.live(on_window=tell)
        return SimulatedDays(calendar.report(), swarm.tally)


async def require_server(address: str) -> None:
    """Refuse an address at which nobody listens; a server that starts may take its time.

    Raises:
        JobError: the address is none, or nobody answers there.
    """
    host, port = _parse_address(address)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        reason = error.strerror or "no answer"
        raise JobError(
            f"--url: expected a server at {address}, got: {reason}; start it (nextswipe up), or "
            "name another"
        ) from error
    writer.close()


def _parse_address(address: str) -> tuple[str, int]:
    problem = f"--url: expected an address such as http://HOST:PORT, got {address!r}"
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as error:
        raise JobError(problem) from error
    if not port or not parts.hostname or parts.scheme not in ("http", "https"):
        raise JobError(problem)
    return parts.hostname, port


def _own_key(config: Config) -> Callable[[], str]:
    return lambda: operator_token(Path(config.data.folder), wall_ms())


def _load(name: str) -> Preset:
    try:
        preset = presets.load(name)
    except ValueError as error:
        raise JobError(str(error)) from error
    if preset.laws != "swipe":
        raise JobError(f"expected a preset of our own laws, got {name} of {preset.laws}'s")
    return preset


def _last_ms(config: Config) -> int:
    """Return the time of the log's last line, behind which the swarm's clock never goes."""
    with open_data(config) as store:
        log = store.log
        lines = log.read(after=log.last_offset() - 1, limit=1)
        return max((line.record.at_ms for line in lines), default=0)
