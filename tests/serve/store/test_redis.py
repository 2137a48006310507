"""A feed whose store is a real Redis, over a real socket: served, learned from, gone on with."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

import aiohttp
import msgspec
import pytest
from lines import feedback, page, tick
from redises import counted_trips, new_name, running, shared_url
from waiting import DEADLINE_S, wait_until

from env.records import LogLine, UserRecord
from env.users.fold import fold
from env.users.state import UserState, encode_state
from env.vocabulary import Profile, UserId, UserKey
from env.world import generated
from serve.config import (
    Arm,
    ClockSettings,
    Config,
    DataSettings,
    Experiment,
    LearnerSettings,
    StoreSettings,
)
from serve.errors import JobError
from serve.jobs.backup import backup
from serve.jobs.import_data import import_items, import_users
from serve.jobs.train_bandit import train_bandit
from serve.jobs.verify import verify_log
from serve.learn.fold import LearnerState
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.replica import Background, FeedReplica, LearnerReplica
from serve.store.data_folder import open_data
from serve.store.generations import current_version
from serve.store.ledger import FeedbackOutcome, WritePath
from serve.store.open import open_store
from serve.store.store import Store, StoreUnavailable, Transaction
from serve.swarm.run import swipe_cards
from serve.wire.client import ClientError, FeedClient
from serve.wire.feed import FeedRequest
from tests.serve.wire.test_client import listening

START_MS = 1_800_000_000_000
N_CARDS = 120


def config_of(folder: Path, url: str) -> Config:
    return Config(
        data=DataSettings(str(folder)),
        store=StoreSettings(url=url, name=new_name(), shards=3),
        clock=ClockSettings(simulated=True),
        learner=LearnerSettings(bits=12, publish_every_s=0.1, snapshots_kept=100),
        experiment=Experiment("one", (Arm("all", "vowpal"),)),
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path / "data", shared_url())


async def swipe(config: Config, address: str, seed: int) -> None:
    await swipe_cards(
        config,
        address,
        n_cards=N_CARDS,
        n_present=10,
        seed=seed,
        now_ms=START_MS + seed * 10**7,
        advance=lambda n: None,
    )


async def live(config: Config, seed: int, n_replicas: int = 2) -> None:
    """Serve and learn in processes' worth of objects, and let users swipe at two replicas."""
    with ExitStack() as stack:
        learner = LearnerReplica(config, now_ms=lambda: START_MS)
        stack.enter_context(closing(learner))
        replicas = [FeedReplica(config, now_ms=lambda: START_MS) for _ in range(n_replicas)]
        for replica in replicas:
            stack.enter_context(closing(replica))
        first, second = replicas
        async with listening(first.app) as here, listening(second.app) as there:
            await asyncio.gather(swipe(config, here, seed), swipe(config, there, seed + 1))
            async with asyncio.timeout(DEADLINE_S):
                while first.pipeline.served.version < 1:  # noqa: ASYNC110  # the follower polls
                    await asyncio.sleep(0.05)
            async with FeedClient(here) as client, FeedClient(there) as other:
                page = await client.feed(FeedRequest("somebody", f"first {seed}"))
                assert await other.feed(FeedRequest("somebody", f"first {seed}")) == page
                gone = page.items[0].item_id
                await client.delete_item(gone)
                shown = await other.feed(FeedRequest("somebody", f"then {seed}"))
                assert gone not in {card.item_id for card in shown.items}
                with pytest.raises(ClientError, match="no index of words"):
                    await client.search_items("film")


async def test_a_feed_on_redis_is_the_fold_of_its_log_also_over_a_restart(config: Config) -> None:
    import_items(config, generated.catalogue(1, 300, START_MS), START_MS)
    await live(config, 1)
    await live(config, 3)

    with open_store(config, lambda: 0) as store:
        lines = list(store.log.read())
        version = current_version(store)
        assert version is not None
        learning = LearnerState(learning_args(config))
        learning.fold([line for line in lines if line.offset <= version.offset])
        snapshot = open_snapshots(config).load(version.version)
        assert {name: snapshot.parts[name] for name in learning.parts()} == learning.parts()
        assert snapshot.manifest.offsets == store.log.shard_offsets(version.offset)
        assert len(snapshot.manifest.offsets) == 4
        assert snapshot.manifest.epoch == 2
        with store.view() as view:
            live_states = view.user_states(list(view.users()))
    assert {user: encode_state(state) for user, state in live_states.items()} == folded(lines)
    verified = verify_log(config)
    assert verified.is_clean, verified
    assert verified.n_decisions > 4 * N_CARDS


def folded(lines: list[LogLine]) -> dict[UserKey, bytes]:
    states: dict[UserKey, UserState | None] = {}
    for line in lines:
        user = getattr(line.record, "user", None)
        if user is not None:
            states[user] = fold(states.get(user), line.record)
    return {user: encode_state(state) for user, state in states.items() if state is not None}


def test_what_is_not_on_redis_is_refused_in_words(config: Config, tmp_path: Path) -> None:
    import_items(config, generated.catalogue(1, 30, START_MS), START_MS)
    with pytest.raises(JobError, match="needs a store that is a file in the data folder"):
        backup(config, tmp_path / "backup", START_MS)
    with pytest.raises(JobError, match="needs a store that takes an import as a whole"):
        import_users(config, generated.users(1, 3, START_MS, generated.COHORTS), START_MS)
    with pytest.raises(JobError, match="expected pages to learn from"):
        train_bandit(config)
    other = msgspec.structs.replace(config.store, name=new_name())
    with pytest.raises(JobError, match=r"store\.url: expected a log of test-.*, found none"):
        open_data(msgspec.structs.replace(config, store=other))


def test_a_server_that_is_away_or_not_durable_is_refused_in_words(tmp_path: Path) -> None:
    with running(tmp_path, appendfsync="everysec") as server:
        config = config_of(tmp_path / "data", server.url)
        with pytest.raises(
            JobError, match=r"store\.url: expected a Redis that has a write on disk"
        ):
            open_data(config, must_exist=False)
    with pytest.raises(JobError, match=r"store\.url: the store is busy, away"):
        open_data(config, must_exist=False)


def test_the_log_of_a_store_that_is_away_fails_as_the_store_does(tmp_path: Path) -> None:
    with running(tmp_path) as server, open_store(config_of(tmp_path, server.url), int) as store:
        store.log.append([tick(1)], durable=True)
        server.stop()
        for ask in (
            lambda: list(store.log.read()),
            lambda: list(store.item_lines(0, 1)),
            lambda: store.log.append([tick(2)], durable=True),
            store.log.last_offset,
            store.log.count,
            lambda: store.log.shard_offsets(1),
        ):
            with pytest.raises(StoreUnavailable, match="busy, away or its disk failed"):
                ask()


def test_the_learner_waits_for_a_store_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path) as server:
        config = config_of(tmp_path / "data", server.url)
        with open_store(config, lambda: 0) as store:
            learner = OnlineLearner(
                store,
                open_snapshots(config),
                learning_args(config),
                now_ms=lambda: START_MS,
                monotonic_s=time.monotonic,
            )
            with closing(Background("learner", learner.run)) as learning:
                server.stop()
                wait_until(lambda: "waits at offset=0" in caplog.text)
                server.start()
                store.log.append([tick(START_MS)], durable=True)
                wait_until(lambda: learner.learning.offset == 1)
                learning.check()


def test_a_feed_on_redis_makes_its_data_folder(config: Config) -> None:
    FeedReplica(config, now_ms=lambda: START_MS).close()
    assert (Path(config.data.folder) / "secret.key").is_file()


async def test_a_store_that_does_not_answer_holds_up_only_who_asks_it(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        config = config_of(tmp_path / "data", server.url)
        import_items(config, generated.catalogue(1, 30, START_MS), START_MS)
        async with AsyncExitStack() as stack:
            replica = stack.enter_context(closing(FeedReplica(config, now_ms=lambda: START_MS)))
            address = await stack.enter_async_context(listening(replica.app))
            client = await stack.enter_async_context(FeedClient(address))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            (card, *_) = (await client.feed(FeedRequest("ann"))).items
            server.process.send_signal(signal.SIGSTOP)
            try:
                pages = [
                    asyncio.create_task(client.feed(FeedRequest(user_id, "again")))
                    for user_id in ("ann", "bob")
                ]
                others = [
                    asyncio.create_task(client.get_user("ann")),
                    asyncio.create_task(client.get_blocks("ann")),
                    asyncio.create_task(client.get_item(card.item_id)),
                ]
                async with asyncio.timeout(DEADLINE_S):
                    for _ in range(10):
                        async with session.get(f"{address}/healthz") as answer:
                            assert answer.status == 200
                assert not any(task.done() for task in (*pages, *others))
            finally:
                server.process.send_signal(signal.SIGCONT)
            assert [len(page.items) for page in await asyncio.gather(*pages)] == [10, 10]
            await asyncio.gather(*others)


def test_a_page_and_a_batch_of_feedback_each_take_two_trips_to_be_written(tmp_path: Path) -> None:
    """One that reads what is asked for, and one that commits; of however many users."""
    with running(tmp_path) as server, open_store(config_of(tmp_path, server.url), int) as store:
        names = [UserKey(f"u{k}") for k in range(20)]
        users = [name for name in names if store.shard_of(name) == store.shard_of("u0")][:4]
        states = {user: state_of(user) for user in users}
        write(store, lambda t: t.put_states(states), users[0])
        drawn = [msgspec.structs.replace(page(f"p{user}"), user=user) for user in users]

        def take_page(transaction: Transaction) -> None:
            assert transaction.user_states(users[:1]) == {users[0]: states[users[0]]}
            assert transaction.find_page(users[0], "p") is None
            assert transaction.catalogue_offset() == 0
            assert transaction.append(drawn[:1]) == [True]

        with counted_trips(server.url) as n_trips:
            write(store, take_page, users[0])
        assert n_trips == [2]
        write(store, lambda t: t.append(drawn[1:]), users[0])
        heard = [
            msgspec.structs.replace(feedback("e", page=f"p{user}"), user=user) for user in users
        ]
        with counted_trips(server.url) as n_trips:
            outcomes = asyncio.run(WritePath(store).commit_feedback(heard))
        assert outcomes == 4 * [FeedbackOutcome.ACCEPTED]
        assert n_trips == [2]


def state_of(user: UserKey) -> UserState:
    state = fold(None, UserRecord(user, 1, UserId(user), Profile()))
    assert state is not None
    return state


def write(store: Store, work: Callable[[Transaction], object], about: str) -> None:
    store.write(work, durable=True, about=about).result()


def test_the_command_line_refuses_a_store_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serve.commands.main", "up", "--store", "mysql://here"]
    done = subprocess.run(
        [*command, "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 2
    assert "expected one of sqlite://, redis://, rediss://, got mysql://" in done.stderr


def test_a_feed_without_redis_loads_none(tmp_path: Path) -> None:
    code = (
        "import sys; from serve.config import Config, DataSettings;"
        "from serve.processes.replica import FeedReplica;"
        "FeedReplica(Config(data=DataSettings(sys.argv[1])), now_ms=lambda: 1).close();"
        "sys.exit('redis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
