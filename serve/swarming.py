"""Brings a data folder's people before a running server, for the command line."""

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
"""Few are there at a time, and every window costs a request on disk: rather fewer of them."""


class Lived(msgspec.Struct, frozen=True):
    """Days of a swarm: what its people did, and what went to the server for it."""

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
    """Let people swipe as a load, always as many of them, until so many cards were shown.

    Args:
        config: names the data folder, whose world they live in.
        address: of the server.
        n_cards: to swipe.
        n_present: people at a time.
        seed: of the world and of what they do.
        now_ms: the wall clock.
        advance: told how many cards were swiped since it was last told.

    Raises:
        NothingToShowError: the server gave nothing to show for too long.
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
    """Let people live by the calendar of their world.

    Args:
        config: of the server too: names the data folder, and its clock is a simulated one.
        address: of the server.
        n_days: to live.
        n_people: at a time.
        preset: how they change, leave and return; see `env.presets.load`.
        seed: of the world and of what they do.
        now_ms: the wall clock; the days begin then, or after what is logged already.
        advance: told how many milliseconds of their lives passed since it was last told.

    Raises:
        NothingToShowError: the server gave nothing to show for too long.
        Refused: the clock is a real one, no such preset, or fewer people than asked for.
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
    """Return the time of the last line of the log: the swarm's clock never goes back behind it."""
    with open_data(config) as store:
        log = store.log
        lines = log.read(after=log.last_offset() - 1, limit=1)
        return max((line.record.at_ms for line in lines), default=0)
