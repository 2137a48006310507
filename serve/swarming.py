"""The jobs of `nextswipe swarm`: run a data folder's simulated users against a running server."""

from collections.abc import Callable

import msgspec

from env import presets
from env.presets import Preset
from env.viewer import people
from serve.attendance import Rush
from serve.client import Client
from serve.config import Config
from serve.data_folder import open_data
from serve.importing import load_world
from serve.refused import Refused
from serve.swarm import Swarm, Tally
from serve.world_calendar import CalendarReport, WorldCalendar

Advance = Callable[[int], None]

CALENDAR_WINDOW_MS = 10_000
"""Few users are present at a time, and every window costs a request on disk: windows are long."""


class Lived(msgspec.Struct, frozen=True):
    """Result of simulated days: the users' behaviour, and the requests to the server."""

    calendar: CalendarReport
    requests: Tally


async def swipe_cards(
    config: Config,
    address: str,
    *,
    n_cards: int,
    n_present: int,
    seed: int,
    now_ms: int,
    advance: Advance,
) -> Tally:
    """Let a fixed number of simulated users swipe as a load, until `n_cards` were shown.

    Args:
        config: names the data folder, with the users' world.
        n_present: users at a time.
        seed: seed of the world and of the users' choices.
        advance: called with the number of cards swiped since the last call.

    Raises:
        NothingToShowError: the server returned nothing to show for too long.
    """
    world, users = load_world(config, seed)
    rush = Rush(people(world, users[: 20 * n_present]), n_present)
    told = 0

    def tell(tally: Tally) -> None:
        nonlocal told
        advance(tally.cards - told)
        told = tally.cards

    async with Client(address) as client:
        swarm = Swarm(client, rush, seed=seed, start_ms=now_ms)
        await swarm.swipe(n_cards, on_window=tell)
        await swarm.leave()
        return swarm.tally


async def live_days(
    config: Config,
    address: str,
    *,
    n_days: int,
    n_people: int,
    preset: str,
    seed: int,
    now_ms: int,
    advance: Advance,
) -> Lived:
    """Let simulated users live by the calendar of their world.

    Args:
        config: also the server's; names the data folder, with a simulated clock.
        n_people: users at a time.
        preset: how they change, leave and return; see `env.presets.load`.
        seed: seed of the world and of the users' choices.
        now_ms: wall clock; the days begin then, or after the last log line.
        advance: called with the simulated milliseconds since the last call.

    Raises:
        NothingToShowError: the server returned nothing to show for too long.
        Refused: the clock is real, there is no such preset, or there are too few users.
    """
    if not config.clock.simulated:
        raise Refused(
            "days need a simulated clock: expected clock.simulated = true in the settings that "
            "the server and the swarm are given"
        )
    world, users = load_world(config, seed, _load(preset))
    if len(users) < n_people:
        raise Refused(f"expected at most {len(users):,} people, as many as there are to play")
    calendar = WorldCalendar(world, users[:n_people], n_days=n_days)
    async with Client(address) as client:
        start_ms = max(now_ms, _last_ms(config) + 1)
        swarm = Swarm(client, calendar, seed=seed, start_ms=start_ms, window_ms=CALENDAR_WINDOW_MS)
        told_ms = start_ms

        def tell(_: Tally) -> None:
            nonlocal told_ms
            advance(swarm.clock_ms - told_ms)
            told_ms = swarm.clock_ms

        await swarm.live(on_window=tell)
        return Lived(calendar.report(), swarm.tally)


def _load(name: str) -> Preset:
    try:
        preset = presets.load(name)
    except ValueError as error:
        raise Refused(str(error)) from error
    if preset.laws != "swipe":
        raise Refused(f"expected a preset of our own laws, got {name} of {preset.laws}'s")
    return preset


def _last_ms(config: Config) -> int:
    """Return the time of the log's last line, behind which the swarm's clock never goes."""
    with open_data(config) as store:
        log = store.log
        lines = log.read(after=log.last_offset() - 1, limit=1)
        return max((line.record.at_ms for line in lines), default=0)
