"""The follower: each new version once, nothing stale, nothing that is not what was published."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

import msgspec
import numpy as np
import pytest
from auditions import START_MS, debut, shown
from waiting import wait_until

from env.columns.schema import N_ACTION, N_SHARED, SCHEMA, quantise
from env.fair_start.audience import Audiences
from env.fair_start.settings import AudienceArgs
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.records import pack_halves
from env.reward import Reward
from env.vocabulary import (
    Context,
    DecisionId,
    Features,
    Feedback,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
)
from policies.bandit.settings import HybridBanditArgs
from policies.explorers import Greedy
from policies.snapshots import SnapshotStore
from serve.config import Config, DataSettings
from serve.feed.pipeline import Pipeline
from serve.learn.fold import LearnerState, LearningArgs
from serve.learn.follower import Follower
from serve.learn.learner import publish
from serve.learn.served import ServingModel, initial_model, initial_serving_model
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.replica import Background, FeedReplica
from serve.store.generations import StaleEpoch, begin_epoch, publish_version
from serve.store.open import open_store
from serve.store.sqlite import SqliteStore
from serve.store.store import Store, Version, write_now

ARGS = HybridBanditArgs(bits=10)
AUDIENCES = AudienceArgs()


@dataclass
class Installation:
    """A learner's side and a follower's side of one folder."""

    store: Store
    snapshots: SnapshotStore
    folder: Path
    learning: LearnerState
    epoch: int
    swapped: list[ServingModel] = field(default_factory=list)

    def follower(self) -> Follower:
        return Follower(self.store, self.snapshots, ARGS, AUDIENCES, self.swapped.append)

    def publish(self, *, resumable: bool = True) -> Version:
        """Learn something and publish it."""
        offset = self.learning.offset = self.learning.offset + 1
        self.learning.policy.learn([interaction(offset)])
        self.learning.states.fold(interaction(offset))
        return publish(self.store, self.snapshots, self.learning, self.epoch, resumable=resumable)

    def home(self, version: Version) -> Path:
        return self.folder / f"v{version.version:012d}"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with SqliteStore(tmp_path / "nextswipe.db", lambda: 0) as store:
        folder, epoch = tmp_path / "snapshots", write_now(store, begin_epoch)
        learning = LearnerState(LearningArgs(ARGS, Reward()))
        yield Installation(store, SnapshotStore(folder), folder, learning, epoch)


def features(seed: int, n: int) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        shared=quantise(rng.normal(size=N_SHARED)),
        actions=quantise(rng.normal(size=(n, N_ACTION))),
        keys=rng.integers(0, 2**64, n, dtype=np.uint64),
    )


def interaction(seed: int) -> Interaction:
    of = features(seed, 1)
    return Interaction(
        decision_id=DecisionId(f"p{seed}:0"),
        page_id=PageId(f"p{seed}"),
        user=UserKey("u"),
        session=SessionId("s"),
        item_id=ItemId(f"i{seed}"),
        slot=0,
        policy="uniform@0",
        propensity=0.1,
        n_actions=10,
        shared=pack_halves(of.shared),
        action=pack_halves(of.actions[0]),
        item_key=int(of.keys[0]),
        duration_s=20.0,
        feedback=Feedback(seen=True, left=True, dwell_s=19.0, like=True),
        reward=1.5,
        scene=Scene(seed),
        closed_ms=seed,
    )


def page_context() -> Context:
    ids = tuple(ItemId(f"i{k}") for k in range(5))
    return Context(PageId("p"), UserKey("u"), SessionId("s"), Scene(0), ids, features(99, 5))


def test_before_anything_is_learned_everybody_scores_alike() -> None:
    served = initial_serving_model(ARGS)
    assert (served.version, served.offset, len(served.states)) == (0, 0, 0)
    assert served.policy.name == "vowpal@0"
    assert not served.policy.score(page_context()).any()


def test_each_new_version_is_swapped_in_once(installation: Installation) -> None:
    follower = installation.follower()
    assert not follower.poll()
    versions = []
    for _ in range(3):
        versions.append(installation.publish())
        assert [follower.poll(), follower.poll()] == [True, False]
    assert [(s.version, s.offset) for s in installation.swapped] == [
        (v.version, v.offset) for v in versions
    ]


def test_a_version_is_warmed_before_it_is_swapped_in(installation: Installation) -> None:
    happened: list[tuple[str, int]] = []
    follower = Follower(
        installation.store,
        installation.snapshots,
        ARGS,
        AUDIENCES,
        lambda served: happened.append(("swap", served.version)),
        lambda served: happened.append(("warm", served.version)),
    )
    for _ in range(2):
        installation.publish()
        follower.poll()
    assert happened == [("warm", 1), ("swap", 1), ("warm", 2), ("swap", 2)]


def test_a_replica_warms_a_version_before_it_serves_with_it(tmp_path: Path) -> None:
    config = Config(data=DataSettings(str(tmp_path)))
    with open_store(config, lambda: 0) as store:
        epoch = write_now(store, begin_epoch)
        publish(store, open_snapshots(config), LearnerState(learning_args(config)), epoch)
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        served, catalogue = replica.pipeline.served, replica.pipeline.catalogue
        assert served.version == 1
        assert served.audiences._aligned is not None
        assert served.audiences._aligned[0] is catalogue
        assert served.states._aligned is served.states.aligned(catalogue)
    finally:
        replica.close()


def test_a_version_is_warmed_safely_while_the_catalogue_grows() -> None:
    records = [debut(f"u{k}", listed=k % 3 > 0) for k in range(3_000)]
    catalogue, audiences = Catalogue(), Audiences()
    states = ItemStates()
    for k, record in enumerate(records):
        if k % 2:
            audiences.put(record)
            states.fold(shown(f"u{k}"))
    versions = [
        ServingModel(initial_model(ARGS), ItemStates.from_bytes(items), Audiences.from_bytes(owed))
        for items, owed in [(states.to_bytes(), audiences.to_bytes())] * 12
    ]

    first = ServingModel(initial_model(ARGS), ItemStates(), Audiences())
    pipeline = Pipeline(Config(), draw_key=b"", served=first, catalogue=catalogue)

    def warm_all(stop: Event) -> None:
        for served in versions:
            known = len(catalogue)
            pipeline.warm(served)
            assert len(served.states.aligned(catalogue).impressions) >= known
        stop.wait()

    warming = Background("warming", warm_all)
    for record in records:
        catalogue.apply(record)
    warming.close()
    warming.check()
    fresh = Audiences.from_bytes(audiences.to_bytes()).aligned(catalogue)
    popular = ItemStates.from_bytes(states.to_bytes()).aligned(catalogue)
    for served in versions:
        found = served.audiences.aligned(catalogue)
        for column in ("level", "stopped", "owed", "due_ms", "price"):
            assert np.array_equal(getattr(found, column), getattr(fresh, column))
        assert np.array_equal(served.states.aligned(catalogue).impressions, popular.impressions)


def test_only_the_newest_of_several_new_versions_is_loaded(installation: Installation) -> None:
    for _ in range(3):
        installation.publish()
    follower = installation.follower()
    assert [follower.poll(), follower.poll()] == [True, False]
    assert [served.version for served in installation.swapped] == [3]


def test_what_is_served_scores_and_states_as_what_was_learned(installation: Installation) -> None:
    version = installation.publish()
    installation.follower().poll()
    (served,) = installation.swapped
    learned = installation.learning
    scores = served.policy.score(page_context())
    assert scores.any()
    assert scores.tobytes() == learned.policy.score(page_context()).tobytes()
    assert served.states.to_bytes() == learned.states.to_bytes()
    assert served.policy.name == f"vowpal@{version.version}"


def test_the_explorer_is_the_replica_s_own(installation: Installation) -> None:
    installation.publish()
    args = msgspec.structs.replace(ARGS, explorer=Greedy())
    swapped: list[ServingModel] = []
    Follower(installation.store, installation.snapshots, args, AUDIENCES, swapped.append).poll()
    assert swapped[0].policy.explorer == {"kind": "greedy"}


def test_a_version_of_an_older_epoch_is_left_alone(installation: Installation) -> None:
    follower = installation.follower()
    installation.publish()
    stale_epoch = installation.epoch
    installation.epoch = write_now(installation.store, begin_epoch)
    version = installation.publish()
    assert follower.poll()
    installation.epoch = stale_epoch
    with pytest.raises(StaleEpoch):
        installation.publish()
    assert not follower.poll()
    cheat = Version(version.version + 9, stale_epoch, 99, "of a learner that cheats")
    write_now(installation.store, lambda transaction: transaction.add_version(cheat))
    assert not follower.poll()
    assert [served.version for served in installation.swapped] == [version.version]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("gone", "no snapshot of version 2"),
        ("broken scorer", "its sha256 is not the manifest's"),
        ("cut items", "bytes, got"),
        ("no manifest", "manifest.json"),
        ("exchanged", "version 2 is not the one that was published"),
        ("another encoding", f"expected feature schema {SCHEMA}, got {SCHEMA + 1}"),
        ("no scorer", "version 2 cannot be decoded: KeyError('scorer')"),
        ("cut scorer", "version 2 cannot be decoded: ValueError('expected "),
        ("odd weights", "version 2 cannot be decoded: ValueError('expected 4 * 2^bits bytes"),
        ("endless weights", "expected finite weights"),
        ("cut states", "version 2 cannot be decoded: DecodeError("),
        ("other states", "version 2 cannot be decoded: ValidationError("),
        ("cut audiences", "version 2 cannot be decoded: DecodeError("),
    ],
)
def test_a_version_that_cannot_be_used_is_left_alone_and_said_once(
    installation: Installation, harm: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    follower = installation.follower()
    installation.publish()
    assert follower.poll()
    do_harm(installation, harm)
    with caplog.at_level(logging.WARNING, logger="serve.learn.follower"):
        assert not any(follower.poll() for _ in range(3))
    (said,) = caplog.messages
    assert said.startswith("kept version=1, refused version=2: ")
    assert message in said
    assert follower.n_refused == 1
    installation.publish()
    assert follower.poll()
    assert [served.version for served in installation.swapped] == [1, 3]


def test_a_replica_that_starts_at_a_version_it_cannot_use_takes_the_one_before(
    installation: Installation,
) -> None:
    for _ in range(2):
        installation.publish()
    publish_parts(installation, 3, {"scorer": b"odd"})
    publish_parts(installation, 4, {"items": b"none"})
    follower = installation.follower()
    assert [follower.poll() for _ in range(3)] == [True, False, False]
    assert [served.version for served in installation.swapped] == [2]
    assert follower.n_refused == 2
    installation.publish()
    assert follower.poll()
    assert [served.version for served in installation.swapped] == [2, 5]


def test_after_a_power_cut_a_replica_takes_the_one_that_was_flushed(
    installation: Installation,
) -> None:
    installation.snapshots = SnapshotStore(installation.folder, keep=3, lasting="join")
    installation.publish()
    for _ in range(9):
        installation.publish(resumable=False)
    for version in installation.snapshots.versions()[1:]:
        (installation.folder / f"v{version:012d}" / "scorer").write_bytes(b"")
    follower = installation.follower()
    assert follower.poll()
    assert [served.version for served in installation.swapped] == [1]
    assert follower.n_refused == 3
    assert not follower.poll()


def publish_parts(
    installation: Installation,
    number: int,
    changed: dict[str, bytes],
    *,
    without: str = "",
    feature_schema: int = SCHEMA,
) -> None:
    """Publish a version like the first, with other parts, that its manifest vouches for."""
    snapshots = installation.snapshots
    parts = {**snapshots.load(1).parts, **changed}
    manifest = msgspec.structs.replace(
        snapshots.manifest(1), version=number, feature_schema=feature_schema
    )
    kept = {name: data for name, data in parts.items() if name != without}
    version = Version(number, installation.epoch, 5, snapshots.publish(manifest, kept).digest)
    write_now(installation.store, partial(publish_version, version=version))


def _with_weights(scorer: bytes, weights: bytes) -> bytes:
    hopes, _, *others = msgspec.msgpack.decode(scorer)
    return msgspec.msgpack.encode((hopes, weights, *others))


def do_harm(installation: Installation, harm: str) -> None:
    """Publish the second version so that it cannot be used."""
    snapshots = installation.snapshots
    if harm == "another encoding":
        publish_parts(installation, 2, {}, feature_schema=SCHEMA + 1)
        return
    if harm == "no scorer":
        publish_parts(installation, 2, {}, without="scorer")
        return
    parts = snapshots.load(1).parts
    endless = np.full(1 << ARGS.bits, np.inf, dtype="<f4")
    undecodable = {
        "cut scorer": {"scorer": parts["scorer"][:-4]},
        "odd weights": {"scorer": _with_weights(parts["scorer"], bytes(12))},
        "endless weights": {"scorer": _with_weights(parts["scorer"], endless.tobytes())},
        "cut states": {"items": parts["items"][:-1]},
        "cut audiences": {"audiences": parts["audiences"][:-1]},
        "other states": {"items": msgspec.msgpack.encode([1, 2])},
    }
    if harm in undecodable:
        publish_parts(installation, 2, undecodable[harm])
        return
    home = installation.home(installation.publish())
    match harm:
        case "gone":
            shutil.rmtree(home)
        case "exchanged":
            shutil.rmtree(home)
            other = msgspec.structs.replace(snapshots.manifest(1), version=2)
            snapshots.publish(other, snapshots.load(1).parts)
        case "broken scorer":
            data = bytearray((home / "scorer").read_bytes())
            data[100] ^= 1
            (home / "scorer").write_bytes(data)
        case "cut items":
            (home / "items").write_bytes((home / "items").read_bytes()[:-1])
        case _:
            (home / "manifest.json").unlink()


def test_a_follower_that_runs_swaps_until_it_is_told_to_stop(installation: Installation) -> None:
    following = Background("follower", lambda stop: installation.follower().run(stop, poll_s=0.001))
    try:
        for _ in range(3):
            version = installation.publish()

            def is_followed(wanted: int = version.version) -> bool:
                following.check()
                swapped = installation.swapped
                return bool(swapped) and swapped[-1].version >= wanted

            wait_until(is_followed)
    finally:
        following.close()
    installation.publish()
    assert [served.version for served in installation.swapped] == [1, 2, 3]
    following.check()  # it was told to stop, so that it has is no failure


def test_a_follower_that_dies_is_heard_of() -> None:
    def die(served: object) -> None:
        raise ZeroDivisionError(served)

    following = Background("follower", die)
    with pytest.raises(RuntimeError, match="follower has stopped") as raised:
        wait_until(partial(is_failing, following))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    following.close()


def is_failing(background: Background) -> bool:
    """Raise once it has failed, and return False until then."""
    background.check()
    return False
