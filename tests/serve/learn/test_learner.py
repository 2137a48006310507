"""The learner: killed and restarted, cut anywhere, overtaken, poisoned, in a quiet log."""

import asyncio
import itertools
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event as Stop

import msgspec
import numpy as np
import pytest
from crowds import clips, gathered, read_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import DEADLINE_S, wait_until

from env.columns.schema import SCHEMA
from env.feedback import REACTIONS, Signal, Signals
from env.records import LogLine, TickRecord
from env.reward import Reward, is_censored
from policies.bandit.policy import HybridBandit
from policies.bandit.settings import HybridBanditArgs
from policies.snapshots import Manifest, Snapshot, SnapshotStore
from replay.join.join import Join
from replay.join.late import KeptPast
from serve.config import Config, DataSettings, JoinTimes
from serve.config import LearnerSettings as Settings
from serve.jobs.import_data import import_items
from serve.learn.fold import JOIN, LearnerState, LearningArgs
from serve.learn.learner import OnlineLearner, publish
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.replica import FeedReplica, LearnerReplica
from serve.store.generations import (
    ActivationConflict,
    activate,
    all_versions,
    begin_epoch,
    current_version,
)
from serve.store.open import open_store
from serve.store.store import Activation, Store, write_now
from serve.wire.feed import Event, FeedbackRequest, FeedRequest

SMALL = Settings(bits=12, publish_every_s=0.1)
ROOT = Path(__file__).parents[3]

LEARNING = """
import itertools, os, signal, sys
from pathlib import Path

import msgspec
from policies.snapshots import SnapshotStore
from serve.learn.learner import OnlineLearner
from serve.learn.fold import LearningArgs
from serve.store.sqlite import SqliteStore

folder, lives = Path(sys.argv[1]), int(sys.argv[2])
args = msgspec.json.decode(sys.argv[3], type=LearningArgs)
clock, moments = itertools.count(), itertools.count(1)

def live(event="", arguments=()):  # at each look at the clock and each touch of a file
    if next(moments) == lives:
        os.kill(os.getpid(), signal.SIGKILL)

def monotonic_s():
    live()
    return next(clock)

with SqliteStore(folder / "nextswipe.db", lambda: 0) as store:
    snapshots = SnapshotStore(folder / "snapshots")
    sys.addaudithook(live)
    learner = OnlineLearner(
        store, snapshots, args,
        now_ms=lambda: 0, monotonic_s=monotonic_s, tick_after_s=None, batch_lines=100,
        resumable_share=float("inf"),
    )
    print(learner.learning.offset, flush=True)
    while learner.step():
        pass
(folder / "parts").write_bytes(msgspec.msgpack.encode(learner.learning.parts()))
"""
"""A learner that publishes after each batch and is killed at a moment of its own life."""


@dataclass(frozen=True)
class History:
    """A data folder that nobody has learned from yet, its log and what that folds to."""

    config: Config
    lines: list[LogLine]
    parts: dict[str, bytes]

    @property
    def folder(self) -> Path:
        return Path(self.config.data.folder)

    @property
    def args(self) -> LearningArgs:
        return learning_args(self.config)

    def copy(self, folder: Path) -> Config:
        shutil.copytree(self.folder, folder)
        return msgspec.structs.replace(self.config, data=DataSettings(str(folder)))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    with gathered(tmp_path_factory.mktemp("history") / "data") as crowd:
        crowd.swipe(500)
        crowd.leave()
    lines = read_lines(crowd.config)
    parts = folded(learning_args(crowd.config), lines).parts()
    return History(crowd.config, lines, parts)


def opened(config: Config) -> Store:
    return open_store(config, lambda: 0)


def learner_of(
    config: Config,
    store: Store,
    args: LearningArgs | None = None,
    batch_lines: int = 500,
    resumable_share: float = math.inf,
) -> OnlineLearner:
    """A learner that publishes after each batch; each look at its clock is a second to it."""
    return OnlineLearner(
        store,
        open_snapshots(config),
        args or learning_args(config),
        now_ms=lambda: 0,
        monotonic_s=itertools.count().__next__,
        tick_after_s=None,
        batch_lines=batch_lines,
        resumable_share=resumable_share,
    )


def learn_all(learner: OnlineLearner) -> dict[str, bytes]:
    while learner.step():
        pass
    return learner.learning.parts()


def folded(args: LearningArgs, lines: Sequence[LogLine]) -> LearnerState:
    learning = LearnerState(args)
    learning.fold(lines)
    return learning


def reopened(learning: LearnerState) -> LearnerState:
    """The fold as a snapshot would bring it back."""
    manifest = Manifest(1, 1, (learning.offset,), SCHEMA, learning.args.reward.version, {})
    return LearnerState.restore(Snapshot(manifest, learning.parts()), learning.args, KeptPast())


def test_a_learner_killed_at_any_moment_ends_with_the_bytes_of_one_that_ran_through(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    folder, rng = tmp_path / "data", np.random.default_rng(20220430)
    snapshots = folder / "snapshots"
    offsets, unfinished = [], 0
    for lives in [*rng.integers(5, 90, size=7).tolist(), 0]:
        ended, told = learn_until_killed(folder, history.args, lives)
        assert ended == (-signal.SIGKILL if lives else 0)
        offsets += [int(line) for line in told.split()]
        unfinished += len(list(snapshots.glob("unfinished-*")))
    assert offsets == sorted(offsets)
    assert 0 < offsets[-1] < history.lines[-1].offset, "the last one had something to resume"
    assert unfinished, "one was killed while it published"
    parts = msgspec.msgpack.decode((folder / "parts").read_bytes(), type=dict[str, bytes])
    assert parts == history.parts
    with opened(config) as store:
        assert learner_of(config, store).learning.parts() == parts


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=12),
)
def test_however_the_log_is_cut_and_wherever_the_fold_is_restored_the_bytes_are_the_same(
    history: History, cuts: list[tuple[float, bool]]
) -> None:
    lines = history.lines
    learning, done = LearnerState(history.args), 0
    for share, is_restored in sorted([*cuts, (1.0, True)]):
        end = round(share * len(lines))
        learning.fold(lines[done:end])
        done = end
        learning = reopened(learning) if is_restored else learning
    assert learning.offset == lines[-1].offset
    assert learning.parts() == history.parts


def test_what_was_learned_is_everything_that_closed_with_a_known_end(history: History) -> None:
    learning = LearnerState(history.args)
    n_closed = sum(learning.fold([line]) for line in history.lines)
    counts = learning.join.counts
    assert n_closed == counts.closed > 400
    assert learning.learned == counts.closed - counts.censored
    assert learning.poisoned == 0


def test_a_published_version_folded_again_from_the_log_gives_the_bytes_of_its_snapshot(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    config = msgspec.structs.replace(
        config, learner=msgspec.structs.replace(config.learner, snapshots_kept=100)
    )
    with opened(config) as store:
        learn_all(learner_of(config, store, batch_lines=200))
        versions = all_versions(store)
    snapshots, learning, done = open_snapshots(config), LearnerState(history.args), 0
    assert [v.version for v in versions] == snapshots.versions()
    assert len(versions) > 3
    for version in versions:
        lines = [line for line in history.lines if done < line.offset <= version.offset]
        learning.fold(lines)
        done = version.offset
        snapshot = snapshots.load(version.version)
        scorer = learning.policy.frozen(version.version).to_bytes()
        assert snapshot.parts == {**learning.parts(), "scorer": scorer}
        assert snapshot.manifest.digest == version.digest
        assert snapshot.manifest.offsets == (version.offset,)


def test_versions_that_cannot_be_resumed_from_are_folded_again_from_the_last_that_can(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        parts = learn_all(learner_of(config, store, batch_lines=20, resumable_share=1e-6))
        snapshots, versions = open_snapshots(config), all_versions(store)
        kept = snapshots.versions()
        first, *others = kept
        assert first == 1, "the one that can be resumed from stays, however old"
        assert others == [version.version for version in versions[-5:]]
        assert [JOIN in snapshots.manifest(number).parts for number in kept] == [True, *[False] * 5]
        resumed = learner_of(config, store)
        assert resumed.learning.offset == versions[0].offset
        resumed.step()
        assert len(all_versions(store)) == len(versions), "it knew less than the current version"
        assert learn_all(resumed) == parts == history.parts


def test_the_last_version_can_be_resumed_from(history: History, tmp_path: Path) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        learner = learner_of(config, store, batch_lines=200, resumable_share=0.01)
        parts, n_versions = learn_all(learner), len(all_versions(store))
        assert learner.publish_if_due() is None
        last = learner.publish_if_due(force=True)
        assert last is not None
        assert last.version == n_versions + 1
        assert learner.publish_if_due(force=True) is None, "it is there already"
        resumed = learner_of(config, store)
        assert resumed.learning.offset == history.lines[-1].offset
        assert resumed.learning.parts() == parts
        assert resumed.publish_if_due(force=True) is None


def test_a_learner_that_was_overtaken_cannot_publish_and_stops(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        old = learner_of(config, store)
        old.step()
        new = learner_of(config, store)
        assert new.learning.parts() == old.learning.parts()
        snapshots = open_snapshots(config).versions()
        with pytest.raises(ActivationConflict):
            learn_all(old)
        assert open_snapshots(config).versions() == snapshots, "it left one that nobody uses"
        old.run(Stop())  # returns, though nobody told it to stop
        current = current_version(store)
        assert current is not None
        assert current.epoch == old.epoch
        assert learn_all(new) == history.parts
        current = current_version(store)
        assert current is not None
        assert current.epoch == new.epoch == old.epoch + 1
        assert current.offset == new.learning.offset
        assert [v.epoch for v in all_versions(store)] == sorted(
            v.epoch for v in all_versions(store)
        )


def test_a_learner_that_was_overtaken_stands_by_and_is_not_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(data=DataSettings(str(tmp_path)), learner=SMALL, join=JoinTimes(settle_ms=100))
    replica = LearnerReplica(config, now_ms=wall_ms)
    try:
        with opened(config) as store:
            newer = write_now(store, begin_epoch)
        swipe_and_leave(config)
        wait_until(lambda: "stopped learning" in caplog.text)
        replica.check()
        with opened(config) as store:
            assert all_versions(store) == []
            assert write_now(store, begin_epoch) == newer + 1
    finally:
        replica.close()


def test_the_number_of_a_snapshot_that_never_became_a_version_is_not_given_again(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        snapshots = open_snapshots(config)
        learner = learner_of(config, store)
        learner.step()
        first = current_version(store)
        assert first is not None
        died = folded(history.args, history.lines[: first.offset + 100])
        snapshots.publish(manifest_of(died, first.version + 1), died.parts())  # and then a crash
        learner = learner_of(config, store)
        assert learner.learning.offset == first.offset, "what never was current is not resumed"
        learner.step()
        second = current_version(store)
        assert second is not None
        assert second.version == first.version + 2


@pytest.mark.parametrize("harm", ["gone", "broken", "exchanged"])
def test_a_learner_whose_last_snapshot_is_lost_resumes_from_the_one_before(
    history: History, tmp_path: Path, harm: str
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        snapshots = open_snapshots(config)
        parts = learn_all(learner_of(config, store))
        *_, before, current = all_versions(store)
        home = tmp_path / "data" / "snapshots" / f"v{current.version:012d}"
        if harm == "broken":
            (home / "items").write_bytes(b"not what it was")
        else:
            shutil.rmtree(home)
        if harm == "exchanged":
            other = folded(history.args, history.lines[:50])
            snapshots.publish(manifest_of(other, current.version), other.parts())
        learner = learner_of(config, store)
        assert learner.learning.offset == before.offset
        assert learn_all(learner) == parts
        healed = current_version(store)
        assert healed is not None
        assert healed.offset == current.offset
        assert healed.version > current.version
        assert snapshots.load(healed.version).manifest.digest == healed.digest


@pytest.mark.parametrize("part", ["model", "items", "join", ""])
def test_a_learner_whose_last_snapshot_cannot_be_decoded_resumes_from_the_one_before(
    history: History, tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        snapshots = open_snapshots(config)
        parts = learn_all(learner_of(config, store))
        good = all_versions(store)[-1]
        snapshot = snapshots.load(good.version)
        harmed = {**snapshot.parts, part: b"no such thing"}
        if not part:
            harmed = {JOIN: snapshot.parts[JOIN]}
        manifest = msgspec.structs.replace(snapshot.manifest, version=good.version + 1)
        digest = snapshots.publish(manifest, harmed).digest
        current = Activation(good.version + 1, good.epoch, good.offset, digest)
        write_now(store, partial(activate, activation=current))
        learner = learner_of(config, store)
        assert learner.learning.offset == good.offset
        assert f"passed over version={current.version}: " in caplog.text
        assert "cannot be decoded" in caplog.text
        assert learn_all(learner) == parts
        learner.publish_if_due(force=True)
        healed = current_version(store)
        assert healed is not None
        assert (healed.version, healed.offset) == (current.version + 1, good.offset)


def test_without_any_snapshot_the_log_is_folded_from_its_start_before_anything_is_published(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        parts = learn_all(learner_of(config, store))
        before = all_versions(store)
        shutil.rmtree(tmp_path / "data" / "snapshots")
        learner = learner_of(config, store)
        assert learner.learning.offset == 0
        assert learn_all(learner) == parts
        (healed,) = set(all_versions(store)) - set(before)
        assert healed.offset == before[-1].offset


GIVEN = Reward.weighing(
    Signals({"gift": Signal("money", currency="EUR", most=9.0, weight=0.5)}),
    valid_play=0.5,
    long_view=0.5,
    version=1,
)


def test_the_shipped_signals_leave_the_arguments_of_earlier_releases_as_they_were() -> None:
    args = LearningArgs(HybridBanditArgs(), Reward()).manifest_args()
    assert set(args["reward"]) == {*REACTIONS, "valid_play", "long_view", "version"}
    assert "interests" not in args
    changed = LearningArgs(HybridBanditArgs(), GIVEN, answers=9, interests=(("gift", 1.0),))
    assert changed.manifest_args()["reward"]["tallies"][-1]["name"] == "gift"
    assert changed.manifest_args()["interests"] == [["gift", 1.0]]


@pytest.mark.parametrize("changed", ["learning_rate", "reward", "signals", "settle_ms"])
def test_under_other_arguments_the_log_is_folded_from_its_start(
    history: History, tmp_path: Path, changed: str
) -> None:
    config, args = history.copy(tmp_path / "data"), history.args
    others = {
        "learning_rate": replace(
            args, vowpal=msgspec.structs.replace(args.vowpal, learning_rate=0.5)
        ),
        "reward": replace(args, reward=Reward(like=2.0)),
        "signals": replace(args, reward=GIVEN),
        "settle_ms": replace(args, settle_ms=args.settle_ms + 1000),
    }
    with opened(config) as store:
        learn_all(learner_of(config, store, batch_lines=5000))
        learner = learner_of(config, store, others[changed], batch_lines=5000)
        assert learner.learning.offset == 0
        parts = learn_all(learner)
        assert parts == folded(others[changed], history.lines).parts()
        current = current_version(store)
        assert current is not None
        assert current.epoch == learner.epoch
        assert learner_of(config, store, others[changed]).learning.parts() == parts


@pytest.mark.parametrize("earlier", ["arguments", "rules"])
def test_what_an_earlier_release_folded_is_folded_anew(
    history: History, tmp_path: Path, earlier: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        parts = learn_all(learner_of(config, store, batch_lines=5000))
        (good,) = all_versions(store)
        snapshot = open_snapshots(config).load(good.version)
        args, before = history.args.manifest_args(), dict(snapshot.parts)
        assert args == snapshot.manifest.args
        shutil.rmtree(tmp_path / "data" / "snapshots")
        if earlier == "arguments":
            del args["vowpal"]["match_sd"]
        else:
            _, *fields = msgspec.msgpack.decode(before["audiences"])
            before["audiences"] = msgspec.msgpack.encode(("audiences/3", *fields))
        manifest = msgspec.structs.replace(snapshot.manifest, version=good.version + 1, args=args)
        digest = open_snapshots(config).publish(manifest, before).digest
        current = Activation(good.version + 1, good.epoch, good.offset, digest)
        write_now(store, partial(activate, activation=current))
        learner = learner_of(config, store, batch_lines=5000)
        assert learner.learning.offset == 0
        assert f"passed over version={current.version}: " in caplog.text
        assert ("other arguments" if earlier == "arguments" else "audiences/3") in caplog.text
        assert learn_all(learner) == parts
        healed = current_version(store)
        assert healed is not None
        assert (healed.version, healed.offset) == (current.version + 1, good.offset)


def test_another_explorer_is_no_other_fold(history: History, tmp_path: Path) -> None:
    config, args = history.copy(tmp_path / "data"), history.args
    greedier = msgspec.convert({"explorer": {"kind": "squarecb", "gamma": 1e6}}, type(args.vowpal))
    other = replace(args, vowpal=msgspec.structs.replace(args.vowpal, explorer=greedier.explorer))
    with opened(config) as store:
        parts = learn_all(learner_of(config, store))
        assert learner_of(config, store, other).learning.parts() == parts


def test_a_poisoned_interaction_is_left_out_alone(history: History) -> None:
    # A share is worth so much that learning one takes a prediction out of bounds.
    args = LearningArgs(
        msgspec.structs.replace(history.args.vowpal, learning_rate=30.0, max_score=10.0),
        Reward(share=90.0),
    )
    learning, join, batch = LearnerState(args), Join(args.reward), list[LogLine]()
    spared, n_shares, n_others = HybridBandit(args.vowpal), 0, 0
    for line in history.lines:
        batch.append(line)
        closed = join.fold(line.record)
        known = [i for i in closed if not is_censored(i.feedback, i.duration_s)]
        others = [i for i in known if not i.feedback.share]
        n_shares, n_others = n_shares + len(known) - len(others), n_others + len(others)
        if len(others) < len(known):
            learning.fold(batch)
            batch.clear()
        spared.learn(others)
    learning.fold(batch)
    assert n_shares > 0
    assert (learning.poisoned, learning.learned) == (n_shares, n_others)
    assert learning.policy.to_bytes() == spared.to_bytes()
    assert learning.policy.refusals == {}
    assert learning.states.to_bytes() == folded(args, history.lines).states.to_bytes()


def test_what_is_left_out_as_poison_does_not_depend_on_how_the_log_is_cut(
    history: History,
) -> None:
    join = Join(history.args.reward)
    closed = [i for line in history.lines for i in join.fold(line.record)]
    known = [i for i in closed if not is_censored(i.feedback, i.duration_s)]
    poison = msgspec.structs.replace(known[200], reward=90.0)
    # At the end of a batch those that follow would have brought its prediction back within bounds.
    antidote = msgspec.structs.replace(known[200], reward=0.0)
    stream = [*known[:200], poison, *[antidote] * 20, *known[200:]]
    vowpal = msgspec.structs.replace(history.args.vowpal, learning_rate=30.0, max_score=10.0)
    folds = list[LearnerState]()
    for n_together in (len(stream), 201, 50, 7, 1):
        folds.append(LearnerState(replace(history.args, vowpal=vowpal)))
        for start in range(0, len(stream), n_together):
            folds[-1]._learn(stream[start : start + n_together])
    assert [fold.poisoned for fold in folds] == [1] * 5
    assert [fold.learned for fold in folds] == [len(stream) - 1] * 5
    assert all(fold.parts() == folds[0].parts() for fold in folds)


def test_in_a_quiet_log_ticks_close_what_waits(tmp_path: Path) -> None:
    config = Config(data=DataSettings(str(tmp_path)), learner=SMALL, join=JoinTimes(settle_ms=100))
    swipe_and_leave(config)
    with opened(config) as store:
        log = store.log
        learner = OnlineLearner(
            store,
            open_snapshots(config),
            learning_args(config),
            now_ms=wall_ms,
            monotonic_s=time.monotonic,
            publish_every_s=0.0,
            tick_after_s=0.05,
        )

        def has_learned() -> bool:
            learner.step()
            return learner.learning.learned > 0

        wait_until(has_learned)
        assert learner.learning.join.n_waiting == 0
        ticks = [line for line in log.read() if isinstance(line.record, TickRecord)]
        assert ticks
        version = current_version(store)
        assert version is not None
        assert version.offset == ticks[-1].offset
        lines = list(log.read())
        assert learner.learning.parts() == folded(learning_args(config), lines).parts()


def test_nothing_is_ticked_where_nothing_waits(history: History, tmp_path: Path) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        log = store.log
        log.append([TickRecord(history.lines[-1].record.at_ms + 10_000)], durable=False)
        n_lines = log.last_offset()
        learner = OnlineLearner(
            store,
            open_snapshots(config),
            history.args,
            now_ms=lambda: history.lines[-1].record.at_ms + 20_000,
            monotonic_s=itertools.count().__next__,
            tick_after_s=0.0,
        )
        learn_all(learner)
        for _ in range(20):
            assert not learner.step()
        assert log.last_offset() == n_lines


def test_what_is_published_is_durable_before_anybody_hears_of_it(
    history: History, tmp_path: Path
) -> None:
    config = history.copy(tmp_path / "data")
    with opened(config) as store:
        epoch = write_now(store, begin_epoch)
        learning = folded(history.args, history.lines)
        version = publish(store, open_snapshots(config), learning, epoch)
        assert current_version(store) == version
        assert version == Activation(1, epoch, history.lines[-1].offset, version.digest)
        assert SnapshotStore(tmp_path / "data" / "snapshots").manifest(1).digest == version.digest


def learn_until_killed(folder: Path, args: LearningArgs, lives: int) -> tuple[int, str]:
    arguments = [str(folder), str(lives), msgspec.json.encode(args).decode()]
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEARNING, *arguments],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        cwd=ROOT,
    )
    return process.returncode, process.stdout


def manifest_of(learning: LearnerState, version: int) -> Manifest:
    args = learning.args
    offsets = (learning.offset,)
    return Manifest(version, 1, offsets, SCHEMA, args.reward.version, args.manifest_args())


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def swipe_and_leave(config: Config) -> None:
    """Let a user see one card and go."""
    import_items(config, clips(20), wall_ms())
    replica = FeedReplica(config, now_ms=wall_ms)
    try:
        asyncio.run(_swipe_and_leave(replica))
    finally:
        replica.close()


async def _swipe_and_leave(replica: FeedReplica) -> None:
    card = (await replica.engine.feed(FeedRequest("me", size=1))).items[0]
    events = (
        Event("1", card.decision_id, "impression", wall_ms()),
        Event("2", card.decision_id, "dwell", wall_ms(), 9.0),
        Event("3", card.decision_id, "leave", wall_ms()),
    )
    assert (await replica.engine.feedback(FeedbackRequest(events))).accepted == 3
