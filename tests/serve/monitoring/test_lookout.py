"""What operators see: one port tells of every replica, the learner and the log, dead or alive."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from histories import catalogue, config_of
from servers import JSON, START_MS, Server, Watch, ask, measured, sample, serving, stocked
from waiting import wait_until

from serve.jobs.import_data import import_items
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args, open_snapshots
from serve.monitoring.heartbeats import GONE_MS, Family, FeedHeartbeat, Heartbeats, LearnerHeartbeat
from serve.monitoring.metrics import Metrics
from serve.monitoring.status import SILENT_S
from serve.processes.replica import FeedReplica, LearnerReplica
from serve.store.generations import current_version
from serve.wire.feed import FeedResponse, Health, LearnerHealth


def learner_of(
    server: Server, folder: Path, monotonic_s: Callable[[], float], batch_lines: int = 500
) -> OnlineLearner:
    config = config_of(folder)
    return OnlineLearner(
        server.store,
        open_snapshots(config),
        learning_args(config),
        now_ms=server.watch,
        monotonic_s=monotonic_s,
        tick_after_s=None,
        batch_lines=batch_lines,
        beats=Heartbeats(folder),
    )


async def health_of(server: Server) -> Health:
    answer = await ask(server.app, "GET", "/readyz")
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=Health)


async def told_of_learner(server: Server, says: str) -> None:
    """Check that the server is not ready, and says this of its learner."""
    answer = await ask(server.app, "GET", "/readyz")
    assert answer.problem() == (503, "")
    assert says in answer.body.decode()


async def swipe(server: Server, user_id: str) -> None:
    """Ask for two cards, see the first and leave, and say something late about nothing open."""
    answer = await ask(server.app, "POST", "/v1/feed", f'{{"user_id":"{user_id}"}}'.encode(), JSON)
    card = msgspec.json.decode(answer.body, type=FeedResponse).items[0]
    told = [("impression", {}), ("dwell", {"value": 20.0}), ("leave", {})]
    events = [
        {"event_id": kind, "decision_id": card.decision_id, "kind": kind, "at_ms": 1, **more}
        for kind, more in told
    ]
    body = msgspec.json.encode({"events": events})
    assert (await ask(server.app, "POST", "/v1/feedback", body, JSON)).status == 202


async def test_the_learner_s_state_and_figures_are_those_of_its_last_beat(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        samples = await measured(server.app)
        assert sample(samples, "nextswipe_learner_up") == 0
        assert "nextswipe_learner_beat_age_seconds" not in samples
        for k in range(5):
            await swipe(server, f"p{k}")
            server.watch.now_ms += 10_000
        learner = learner_of(server, tmp_path, itertools.count().__next__)
        learner.step()
        await swipe(server, "late")
        server.watch.now_ms += 3_000
        health = await health_of(server)
        assert health.learner is not None
        assert (health.learner.state, health.learner.age_s) == ("learning", 3.0)
        samples = await measured(server.app)
        assert sample(samples, "nextswipe_learner_up") == 1
        assert sample(samples, "nextswipe_learner_beat_age_seconds") == 3.0
        assert sample(samples, "nextswipe_learner_epoch") == learner.epoch == 1
        current = current_version(server.store)
        assert current is not None
        assert sample(samples, "nextswipe_learner_version") == current.version
        assert sample(samples, "nextswipe_version") == current.version
        assert sample(samples, "nextswipe_learner_offset") == learner.learning.offset
        lag = server.store.log.last_offset() - learner.learning.offset
        assert sample(samples, "nextswipe_learner_lag_records") == lag > 0
        counts = learner.learning.join.counts
        of = {"process": "learner-1"}
        for name, n in (
            ("learned", learner.learning.policy.n_events),
            ("closed", counts.closed),
            ("late", counts.late),
            ("never_seen", counts.never_seen),
        ):
            assert sample(samples, f"nextswipe_learner_{name}_total", **of) == n
        assert counts.closed == 4


async def test_a_silent_learner_makes_the_server_unready_though_feeds_are_answered(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        learner_of(server, tmp_path, itertools.count().__next__).step()
        server.watch.now_ms += round(1000 * SILENT_S)
        health = await health_of(server)
        assert health.learner is not None
        assert health.learner.state == "learning"
        server.watch.now_ms += 1
        await told_of_learner(server, "the learner has been silent for 10 s")
        await swipe(server, "whoever")
        samples = await measured(server.app)
        assert sample(samples, "nextswipe_learner_up") == 0
        assert sample(samples, "nextswipe_learner_beat_age_seconds") == SILENT_S + 0.001


async def test_the_newest_learner_is_the_one_that_is_told_of(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        old, new = (learner_of(server, tmp_path, itertools.count().__next__) for _ in range(2))
        for learner in (old, new, old):
            learner.step()
        samples = await measured(server.app)
        assert sample(samples, "nextswipe_learner_epoch") == new.epoch == old.epoch + 1
        new.step()
        assert set(Heartbeats(tmp_path).read()) == {f"learner-{new.epoch}"}


async def test_a_learner_that_was_overtaken_is_silent_until_its_successor_speaks(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        old = learner_of(server, tmp_path, itertools.count().__next__)
        old.step()
        assert (await health_of(server)).learner == LearnerHealth("learning", 0.0)
        new = learner_of(server, tmp_path, itertools.count().__next__)
        old.step()
        await told_of_learner(server, "the learner has been silent for 0 s")
        samples = await measured(server.app)
        assert sample(samples, "nextswipe_learner_up") == 0
        new.step()
        assert (await health_of(server)).learner == LearnerHealth("learning", 0.0)


async def test_the_learner_speaks_once_a_second_however_often_it_steps(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        await stocked(server)
        second = 0.0
        learner = learner_of(server, tmp_path, lambda: second)
        said = set[int]()
        for step in range(40):
            server.watch.now_ms += 1
            second = step / 10
            learner.step()
            beat = Heartbeats(tmp_path).read()["learner-1"]
            said.add(beat.at_ms)
        assert len(said) == 4


def test_a_learner_that_is_closed_says_so_and_one_that_swaps_is_seen_by_all(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path)
    import_items(config, catalogue(), START_MS)
    clock = Watch()
    with ExitStack() as stack:
        replicas = [stack.enter_context(closing(FeedReplica(config, now_ms=clock))) for _ in "ab"]
        with closing(LearnerReplica(config, now_ms=clock)):
            wait_until(lambda: "learning" in states_of(tmp_path))
        assert states_of(tmp_path) == ["stopped"]
        one, other = replicas
        asyncio.run(_ask_both(one, other))
        wait_until(
            lambda: len([n for n in Heartbeats(tmp_path).read() if n.startswith("feed-")]) == 2
        )
        wait_until(lambda: asyncio.run(_count_feeds(one)) == 3.0)
        wait_until(lambda: asyncio.run(_count_feeds(other)) == 3.0)
        samples = asyncio.run(measured(other.app))
        processes = {of["process"] for of, _ in samples["nextswipe_served_version"]}
        assert len(processes) == 2
        assert sample(samples, "nextswipe_pages_total") == 3
        assert len(samples["nextswipe_pages_total"]) == 1


async def _ask_both(one: FeedReplica, other: FeedReplica) -> None:
    for replica in (one, other, other):
        answer = await ask(replica.app, "POST", "/v1/feed", b'{"user_id":"ann"}', JSON)
        assert answer.status == 200


async def _count_feeds(replica: FeedReplica) -> float:
    samples = await measured(replica.app)
    return sample(samples, "nextswipe_requests_total", operation="feed", status="200")


def states_of(folder: Path) -> list[str]:
    return [b.state for b in Heartbeats(folder).read().values() if isinstance(b, LearnerHeartbeat)]


async def test_replicas_that_are_gone_are_left_out_and_then_dropped(tmp_path: Path) -> None:
    beats = Heartbeats(tmp_path)
    served = Family(
        "nextswipe_served_version", "", "gauge", (("nextswipe_served_version", {}, 7.0),)
    )
    beats.write("feed-00", FeedHeartbeat(START_MS, (served,)))
    with serving(tmp_path) as server:
        for later_ms, expected in ((GONE_MS, 7.0), (GONE_MS + 1, 0.0)):
            server.watch.now_ms = START_MS + later_ms
            samples = await measured(server.app)
            assert sample(samples, "nextswipe_served_version") == expected
    beats.write("feed-01", FeedHeartbeat(START_MS + GONE_MS))
    assert set(beats.read()) == {"feed-00", "feed-01"}
    beats.write("feed-01", FeedHeartbeat(START_MS + GONE_MS + 1))
    assert set(beats.read()) == {"feed-01"}


def test_a_process_has_a_name_of_its_own_and_tells_nothing_twice() -> None:
    metrics = Metrics()
    assert metrics.process != Metrics().process
    metrics.answered("feed", 200, 0.1, FeedResponse("p", ()))
    metrics.followed(4, 2)
    metrics.ranked(3, 1)
    samples = [sample for family in metrics.families() for sample in family.samples]
    keys = [(name, tuple(sorted(labels.items()))) for name, labels, _ in samples]
    assert len(set(keys)) == len(keys)
    values = {name: value for name, labels, value in samples if not labels}
    assert values["nextswipe_served_version"] == 4
    assert values["nextswipe_versions_refused"] == 2
    assert values["nextswipe_served_ranker"] == 3
    assert values["nextswipe_rankers_refused"] == 1
    assert values["nextswipe_pages_empty_total"] == 1
