"""A Ray of three nodes on this machine, served by what `deploy` writes: one dies, service goes on.

Head and two workers are three raylets with ports of their own, all on loopback. The head holds no
replica; HAProxy stands on it alone, since three of one machine would want the same port. The node
that is killed is the one that has the learner, and a replica of the feed beside it.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import aiohttp
from live import Live, get, live
from redises import new_name, shared_url
from waiting import DEADLINE_S

from env.records import FeedbackRecord, PageRecord
from env.world import generated
from serve.config import Config, DataSettings, LearnerSettings, StoreSettings
from serve.jobs.import_data import import_items
from serve.store.generations import current_version
from serve.store.open import open_store
from serve.store.store import Store

PROGRAM = """
import json, os, signal, sys
from pathlib import Path

import msgspec
import yaml

from serve.processes.cluster import Cluster as Size, args_of, serve_config
from serve.config import load
from serve.processes.edge import switched

config = load(Path(sys.argv[1]))
SMALL = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
HEAD = {**SMALL, "num_cpus": 0, "include_dashboard": False}


def write_config(folder, eps):
    address = folder / "url"
    address.write_text(config.store.url)
    size = Size("none", config.store.url, min_replicas=2, max_replicas=2)
    deployed = serve_config(config, size) | {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": config.server.port},
    }
    feed = msgspec.structs.replace(config.feed, eps=eps)
    settings = msgspec.structs.replace(config, feed=feed)
    deployed["applications"][0]["args"] = args_of(settings, str(address), config.data.folder)
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(deployed))
    return file


def places():
    from ray.serve.context import _get_global_client

    application = _get_global_client().get_serve_details()["applications"]["nextswipe"]
    return {
        name: {replica["replica_id"]: replica["node_id"] for replica in deployment["replicas"]}
        for name, deployment in application["deployments"].items()
        if all(replica["state"] == "RUNNING" for replica in deployment["replicas"])
    }


def deploy(cluster, eps):
    file = write_config(Path(sys.argv[1]).parent, eps)
    command = ["run", "--address", cluster.address, "--non-blocking", str(file)]
    cli.main(command, standalone_mode=False)


with switched(config.server):
    import ray
    from ray.cluster_utils import Cluster
    from ray.serve.scripts import cli

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        workers = [cluster.add_node(num_cpus=4, **SMALL) for _ in range(2)]
        deploy(cluster, 0.02)
        for line in sys.stdin:
            match line.split():
                case ["kill", node]:
                    (doomed,) = [worker for worker in workers if worker.node_id == node]
                    os.kill(doomed.all_processes["raylet"][0].process.pid, signal.SIGKILL)
                case ["update"]:
                    deploy(cluster, 0.03)
            print("told", json.dumps(places()), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()
"""
N_SWIPING = 4
N_AFTER = 100
RETRY_S = 0.1
PAUSE_S = 0.05
N_TOLD = 2
"""Events about a page."""


Placed = dict[str, dict[str, str]]
"""Of each deployment whose replicas all run: their ids, and those of the nodes they are on."""


@dataclass
class Tally:
    """What was asked and answered."""

    pages: dict[str, list[str]] = field(default_factory=dict)  # by request, its cards' ids
    events: set[str] = field(default_factory=set)  # that were acknowledged
    failures: list[tuple[float, str]] = field(default_factory=list)
    is_over: bool = False

    @property
    def n_answered(self) -> int:
        return len(self.pages)


def test_a_node_dies_with_the_learner_and_a_replica_and_service_goes_on(tmp_path: Path) -> None:
    """While the node dies a request may fail; asked again under its id it is answered, once.

    Afterwards all replicas are replaced by ones with other settings, and nothing fails.
    """
    store = StoreSettings(url=shared_url(), name=new_name(), shards=3)
    config = Config(
        data=DataSettings(str(tmp_path / "data")), store=store, learner=LearnerSettings(bits=12)
    )
    now_ms = time.time_ns() // 1_000_000
    (tmp_path / "data").mkdir()
    import_items(config, generated.catalogue(1, 300, now_ms), now_ms)
    settings = (
        f'drain_s = 1.0\n[store]\nurl = "{store.url}"\nname = "{store.name}"\nshards = 3\n'
        "[learner]\nbits = 12"
    )
    with open_store(config, lambda: now_ms) as opened:
        with live(tmp_path, settings=settings, program=PROGRAM) as server:
            tally, died_s, moved_s = asyncio.run(swipe_through(server, opened))
        records = [line.record for line in opened.log.read()]
    assert [each for each in tally.failures if not died_s <= each[0] <= moved_s] == []
    # Who waits for an answer when the node dies may lose it; HAProxy hides most of that.
    assert len(tally.failures) <= N_SWIPING, tally.failures
    drawn = {record.page_id for record in records if isinstance(record, PageRecord)}
    assert len(drawn) == tally.n_answered, "each request has one page, asked once or again"
    events = [record for record in records if isinstance(record, FeedbackRecord)]
    assert len(events) == N_TOLD * len(tally.events), "what was acknowledged is there, once"


async def swipe_through(server: Live, store: Store) -> tuple[Tally, float, float]:
    """Let users swipe while a node dies; return when it did, and when all was there again."""
    tally = Tally()
    async with aiohttp.ClientSession() as session:
        users = [asyncio.create_task(swipe(server, session, tally, k)) for k in range(N_SWIPING)]
        await until(lambda: epoch_of(store) > 0)
        first = epoch_of(store)
        before = await all_running(server)
        assert await asyncio.to_thread(get, server.address + "/-/healthz")  # which KubeRay asks
        (doomed,) = before["Learner"].values()
        assert len(set(before["Feed"].values())) == 2
        assert doomed in before["Feed"].values()
        died_s = time.monotonic()
        await asyncio.to_thread(command, server, f"kill {doomed}")
        moved = await all_running(server, without={doomed})
        moved_s = time.monotonic()
        await asyncio.to_thread(command, server, "update")
        await all_running(server, without={*moved["Feed"], *moved["Learner"]})
        wanted = tally.n_answered + N_AFTER
        await until(lambda: tally.n_answered >= wanted and epoch_of(store) > first)
        tally.is_over = True
        await asyncio.gather(*users)
        for request, cards in list(tally.pages.items())[::10]:
            assert await ask(server, session, request) == (200, cards)
    return tally, died_s, moved_s


def epoch_of(store: Store) -> int:
    """Return which learner published last; 0: none did."""
    version = current_version(store)
    return 0 if version is None else version.epoch


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds; whoever swipes tells nobody."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def all_running(server: Live, without: Collection[str] = ()) -> Placed:
    """Return where replicas are, once all of them run, without these replicas and nodes."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await asyncio.to_thread(command, server, "places")
            counts = {name: len(replicas) for name, replicas in found.items()}
            named = {name for replicas in found.values() for name in chain(*replicas.items())}
            if counts == {"Feed": 2, "Learner": 1} and named.isdisjoint(without):
                return found
            await asyncio.sleep(RETRY_S)


def command(server: Live, wanted: str) -> Placed:
    """Have the program kill a node's raylet, or update the application; return what runs then."""
    stdin, stdout = server.process.stdin, server.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(wanted + "\n")
    stdin.flush()
    while not (line := stdout.readline()).startswith("told "):
        assert line, "the cluster has ended"
    told: Placed = json.loads(line.removeprefix("told "))
    return told


async def swipe(server: Live, session: aiohttp.ClientSession, tally: Tally, who: int) -> None:
    """Ask for pages and tell of a card of each, again under the same ids where it failed."""
    number = 0
    while not tally.is_over:
        request, number = f"{who}-{number}", number + 1
        cards = await again(tally, partial(ask, server, session, request))
        tally.pages[request] = cards
        await again(tally, partial(tell, server, session, cards[0]))
        tally.events.add(cards[0])
        await asyncio.sleep(PAUSE_S)


async def again(tally: Tally, attempt: Callable[[], Awaitable[tuple[int, list[str]]]]) -> list[str]:
    """Return what was answered in the end."""
    while True:
        try:
            status, said = await attempt()
        except aiohttp.ClientError as error:
            status, said = 0, [repr(error)]
        if status in (200, 202):
            return said
        tally.failures.append((time.monotonic(), f"{status} {said}"))
        await asyncio.sleep(RETRY_S)


async def ask(server: Live, session: aiohttp.ClientSession, request: str) -> tuple[int, list[str]]:
    """Ask for a page; return its cards' ids."""
    body = {"user_id": f"u{request}", "request_id": request, "size": 5}
    async with session.post(server.address + "/v1/feed", json=body) as answer:
        text = await answer.text()
    if answer.status != 200:
        return answer.status, [text]
    return 200, [card["decision_id"] for card in json.loads(text)["items"]]


async def tell(server: Live, session: aiohttp.ClientSession, card: str) -> tuple[int, list[str]]:
    """Tell that a card was seen and left, so that it closes and is learned from."""
    events = [
        {"event_id": kind, "decision_id": card, "kind": kind, "at_ms": 0}
        for kind in ("impression", "leave")
    ]
    async with session.post(server.address + "/v1/feedback", json={"events": events}) as answer:
        return answer.status, [await answer.text()]
