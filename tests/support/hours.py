"""Logs of many versions: a feed in this process that learns and publishes every few cards."""

import asyncio

from env.world import generated
from env.world.user import simulated_users
from serve.bench.in_process import serving_in_process
from serve.config import ClockSettings, Config, DataSettings, LearnerSettings, StoreSettings
from serve.jobs.import_data import import_items, import_users, load_world
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm

HOURS_START_MS = 1_800_000_000_000
N_KEPT = 5


def small_config(folder: str, store: StoreSettings | None = None) -> Config:
    """Return settings with a small model, of which five versions are kept."""
    return Config(
        data=DataSettings(folder),
        store=store or StoreSettings(),
        clock=ClockSettings(simulated=True),
        learner=LearnerSettings(bits=12, publish_every_s=0.1, snapshots_kept=N_KEPT),
    )


def fill(config: Config, seed: int = 1, n_items: int = 300, n_users: int = 120) -> None:
    """Put items and users into an empty data folder."""
    import_items(config, generated.catalogue(seed, n_items, HOURS_START_MS), 0)
    if not config.store.url:  # elsewhere users register with their first page
        import_users(config, generated.users(seed, n_users, HOURS_START_MS), 0)


def swipe_windows(config: Config, n_windows: int, present: int = 30, seed: int = 1) -> None:
    """Let users swipe for some seconds of the world, with a version after each."""
    world, accounts = load_world(config, seed)
    users = ConstantAttendance(simulated_users(world, accounts[: 4 * present]), present)
    start_ms = HOURS_START_MS + 86_400_000 * seed

    async def swipe() -> None:
        with serving_in_process(config, start_ms) as server:
            swarm = Swarm(server, users, seed=seed, start_ms=start_ms)
            left = n_windows

            def on_window(_: object) -> None:
                nonlocal left
                left -= 1
                server.advance(swarm.clock_ms)
                server.learn()

            while left > 0:
                await swarm.swipe(1, on_window=on_window)
            await swarm.leave()
            server.advance(swarm.clock_ms)

    asyncio.run(swipe())
