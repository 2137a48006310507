"""A crowd of simulated users in front of a real engine, in one process and without HTTP."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from histories import HALVES, START_MS, config_of

from env.records import LogLine
from env.vocabulary import Item
from env.world import generated, responses
from env.world.user import SimulatedUser, simulated_users
from env.world.world import make_world
from serve.config import Config, Custom, Experiment
from serve.feed.engine import Engine
from serve.jobs.import_data import import_items
from serve.processes.replica import FeedReplica
from serve.store.open import open_store
from serve.swarm.attendance import ConstantAttendance
from serve.swarm.swarm import Swarm, Witness
from serve.wire.client import ClientError
from serve.wire.feed import (
    CardBody,
    Event,
    FeedbackRequest,
    FeedbackResponse,
    FeedRequest,
    FeedResponse,
)

SEED = 3
N_PRESENT = 20


@dataclass
class Direct:
    """An engine where the swarm expects a server; keeps what it was told."""

    engine: Engine
    events: list[Event] = field(default_factory=list)
    pages: list[tuple[FeedRequest, FeedResponse]] = field(default_factory=list)

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return a page."""
        page = await self.engine.feed(request)
        self.pages.append((request, page))
        return page

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Take events."""
        self.events += request.events
        return await self.engine.feedback(request)


@dataclass
class Parrot:
    """A server that gives everybody the same page and takes every event."""

    cards: tuple[CardBody, ...] = ()
    is_down: bool = False
    events: list[Event] = field(default_factory=list)
    asked: list[FeedRequest] = field(default_factory=list)

    async def feed(self, request: FeedRequest) -> FeedResponse:
        """Return the page."""
        if self.is_down:
            raise ClientError("no connection")
        self.asked.append(request)
        return FeedResponse(request.session_id or "", self.cards)

    async def feedback(self, request: FeedbackRequest) -> FeedbackResponse:
        """Take the events."""
        if self.is_down:
            raise ClientError("no connection")
        self.events += request.events
        return FeedbackResponse(len(request.events), 0, ())


@dataclass
class Crowd:
    """A replica, the swarm in front of it, and what went between them."""

    config: Config
    replica: FeedReplica
    direct: Direct
    swarm: Swarm

    def swipe(self, n_cards: int) -> None:
        """Let so many more cards be swiped."""
        asyncio.run(self.swarm.swipe(n_cards))

    def leave(self) -> None:
        """Let everybody leave."""
        asyncio.run(self.swarm.leave())


def clips(n: int) -> list[Item]:
    """Return n generated items."""
    return generated.catalogue(SEED, n, START_MS)


def cards_of(items: list[Item]) -> tuple[CardBody, ...]:
    """Return a page of these items."""
    return tuple(
        CardBody(f"{item.item_id}:0.mac", item.item_id, 0, 0.5, "uniform@0", "fresh", item)
        for item in items
    )


def users_of(items: list[Item], n: int) -> list[SimulatedUser]:
    """Return n generated users who know these items."""
    world = make_world(responses.generated(), items, SEED)
    return simulated_users(world, generated.users(SEED, n, START_MS))


@contextmanager
def gathered(
    folder: Path,
    *,
    n_items: int = 200,
    n_users: int = 40,
    page_size: int = 6,
    seed: int = SEED,
    experiment: Experiment = HALVES,
    witness: Witness | None = None,
    custom: Custom | None = None,
) -> Iterator[Crowd]:
    """Open a data folder with a generated catalogue and gather a crowd in front of it."""
    config = msgspec.structs.replace(config_of(folder, experiment), custom=custom or Custom())
    items = clips(n_items)
    import_items(config, items, START_MS)
    world = make_world(responses.generated(), items, SEED)
    users = simulated_users(world, generated.users(SEED, n_users, START_MS))
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    direct = Direct(replica.engine)
    swarm = Swarm(
        direct,
        ConstantAttendance(users, N_PRESENT),
        seed=seed,
        start_ms=START_MS,
        page_size=page_size,
        witness=witness,
    )
    try:
        yield Crowd(config, replica, direct, swarm)
    finally:
        replica.close()


def read_lines(config: Config) -> list[LogLine]:
    """Return the whole log of a data folder."""
    with open_store(config, lambda: 0) as store:
        return list(store.log.read())
