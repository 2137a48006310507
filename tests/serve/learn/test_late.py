"""Late feedback in the learner: killed, cut, of an older release, verified, read as a whole."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from crowds import gathered, read_lines
from histories import config_of, make_history, make_learner
from redises import new_name, shared_url
from waiting import DEADLINE_S

from env.columns.schema import SCHEMA
from env.records import FeedbackKind, FeedbackRecord, PageRecord, Record, TickRecord
from env.vocabulary import Correction, Example, PageId, decision_id
from policies.snapshots import Manifest, Snapshot
from replay.join.dataset import read
from replay.join.late import KeptPast
from replay.join.our_log import LogSource
from serve.config import Config, JoinTimes, StoreSettings
from serve.jobs.verify import verify_log
from serve.learn.fold import LATE, LearnerState
from serve.learn.settings import learning_args
from serve.store.open import open_store
from serve.store.store import Store, StorePast

ROOT = Path(__file__).parents[3]
DAY_MS = 86_400_000
BEGIN = TickRecord(0, corrects_ms=30 * DAY_MS)
TOLD: tuple[tuple[FeedbackKind, float], ...] = (("like", 0.0), ("dwell", 25.0), ("leave", 0.0))

LEARNING = """
import itertools, os, signal, sys
from pathlib import Path

import msgspec
from serve.config import Config
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args, open_snapshots
from serve.store.open import open_store

config, lives = msgspec.json.decode(sys.argv[1], type=Config), int(sys.argv[2])
clock, moments = itertools.count(), itertools.count(1)

def live(event="", arguments=()):  # at each look at the clock and each touch of a file
    if next(moments) == lives:
        os.kill(os.getpid(), signal.SIGKILL)

def monotonic_s():
    live()
    return next(clock)

with open_store(config, lambda: 0) as store:
    sys.addaudithook(live)
    learner = OnlineLearner(
        store, open_snapshots(config), learning_args(config),
        now_ms=lambda: 0, monotonic_s=monotonic_s, tick_after_s=None, batch_lines=100,
        resumable_share=float("inf"), corrects_ms=30 * 86_400_000,
    )
    print(learner.learning.offset, flush=True)
    while learner.step():
        pass
Path(config.data.folder, "parts").write_bytes(msgspec.msgpack.encode(learner.learning.parts()))
"""
"""A learner that publishes after each batch and is killed at a moment of its own life."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A log of which nobody has learned: swiped cards, and events that come days late."""
    with gathered(tmp_path_factory.mktemp("late") / "data") as crowd:
        crowd.swipe(400)
        crowd.leave()
    made: list[Record] = [BEGIN, *(line.record for line in read_lines(crowd.config))]
    rng, at_ms = np.random.default_rng(8), made[-1].at_ms + 3 * 3_600_000
    told = []
    for page in made:
        if not isinstance(page, PageRecord):
            continue
        for drawn in page.drawn:
            for k, (kind, value) in enumerate(TOLD):
                if rng.random() < 0.3:
                    told.append(
                        FeedbackRecord(
                            event_id=f"late-{drawn.slot}-{k}",
                            decision_id=decision_id(page.page_id, drawn.slot),
                            at_ms=at_ms + int(rng.integers(2 * DAY_MS)),
                            user=page.user,
                            session=page.session,
                            kind=kind,
                            value=value,
                        )
                    )
    return made + sorted(told, key=lambda event: event.at_ms)


@pytest.fixture(params=["sqlite", "redis"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Settings of a new store of each kind."""
    config = config_of(tmp_path / "data")
    if request.param == "redis":
        store = StoreSettings(url=shared_url(), name=new_name(), shards=3)
        config = msgspec.structs.replace(config, store=store)
    return config


@pytest.fixture
def store(config: Config, records: list[Record]) -> Iterator[Store]:
    """A store of each kind with that log."""
    with open_store(config, lambda: 0) as store:
        store.log.append(records, durable=True)
        yield store


def folded(config: Config, store: Store) -> LearnerState:
    """The fold of all lines at once, which keeps the pages in memory."""
    learning = LearnerState(learning_args(config))
    learning.fold(list(store.log.read()))
    return learning


def test_a_learner_that_is_killed_corrects_everything_once(config: Config, store: Store) -> None:
    whole = folded(config, store)
    counts = whole.late.counts
    assert min(counts.corrected, counts.completed, counts.noted, counts.repeated) > 10
    assert sum(msgspec.structs.astuple(counts)) == whole.join.counts.late
    # A process on a Redis looks at more files and sockets before it learns.
    shortest, longest = (200, 700) if config.store.url else (30, 110)
    lives = np.random.default_rng(6).integers(shortest, longest, size=5).tolist()
    offsets = list[int]()
    for n in [*lives, 0]:
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", LEARNING, msgspec.json.encode(config), str(n)],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            cwd=ROOT,
        )
        assert process.returncode == (-signal.SIGKILL if n else 0)
        offsets += [int(line) for line in process.stdout.split()]
    assert 0 < offsets[-1] < store.log.last_offset(), "the last one had something to resume"
    whole = folded(config, store)  # one that had not read the beginning has said it again
    parts = Path(config.data.folder, "parts").read_bytes()
    assert msgspec.msgpack.decode(parts, type=dict[str, bytes]) == whole.parts()


def test_what_is_found_on_disk_is_what_was_kept_in_memory(config: Config, store: Store) -> None:
    whole, learning = folded(config, store), LearnerState(learning_args(config), StorePast(store))
    rng = np.random.default_rng(2)
    while lines := list(store.log.read(learning.offset, int(rng.integers(1, 400)))):
        learning.fold(lines)
        if rng.random() < 0.2:
            manifest = Manifest(1, 1, (learning.offset,), SCHEMA, 1, {})
            snapshot = Snapshot(manifest, learning.parts())
            learning = LearnerState.restore(snapshot, learning.args, StorePast(store))
    assert learning.parts() == whole.parts()


def test_nothing_of_a_closed_page_stays_in_memory(config: Config, store: Store) -> None:
    learning = LearnerState(learning_args(config), StorePast(store))
    learning.fold(list(store.log.read()))
    n_marks = learning.join.counts.seen
    assert len(learning.late.to_bytes()) < 200 + 12 * n_marks
    assert not any(learning.join.is_open(page_id) for page_id in pages_of(store))


def test_offline_readers_come_to_the_rewards_that_the_learner_adds_up(
    config: Config, store: Store
) -> None:
    learning = LearnerState(learning_args(config), StorePast(store))
    sums = dict[str, float]()
    learn = learning.policy.learn

    def learn_and_add(examples: Sequence[Example]) -> None:
        for each in examples:
            last = each.after if isinstance(each, Correction) else each
            more = each.difference if isinstance(each, Correction) else each.reward
            sums[last.decision_id] = sums.get(last.decision_id, 0.0) + more
        learn(examples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning.policy, "learn", learn_and_add)
        learning.fold(list(store.log.read()))
    dataset = read(store.log.read(), config.reward, past=StorePast(store))
    source = LogSource(store.log.read, config.reward, past=StorePast(store))
    batches = list(source.batches())
    assert len(source) == len(dataset)
    assert sum(float(batch.reward.sum()) for batch in batches) == float(dataset.reward.sum())
    assert source.coverage == dataset.coverage
    rows = {
        decision_id(dataset.pages[page].page_id, int(slot)): reward
        for page, slot, reward in zip(dataset.page, dataset.slot, dataset.reward, strict=True)
    }
    assert learning.late.counts.filtered == 0, "offline, what guards filter is a row too"
    assert sums == rows


def test_unreported_cards_are_learned_with_the_default_reward(config: Config, store: Store) -> None:
    args = replace(learning_args(config), default_reward=-0.5)
    learning = LearnerState(args, StorePast(store))
    learning.fold(list(store.log.read()))
    counts = learning.join.counts
    without = folded(config, store)
    assert counts.never_seen > 50
    assert learning.learned > without.learned + counts.never_seen // 2
    assert learning.states.to_bytes() == without.states.to_bytes(), "they are no impressions"
    assert learning.audiences.to_bytes() == without.audiences.to_bytes()
    assert args.manifest_args()["default_reward"] == -0.5
    assert "default_reward" not in learning_args(config).manifest_args()
    rows = read(store.log.read(), config.reward, default_reward=-0.5, past=StorePast(store))
    assert len(rows) == rows.coverage.drawn, "who was seen and is not known has it as well"
    assert (rows.reward == -0.5).sum() > 50


def pages_of(store: Store) -> Iterator[PageId]:
    return (r.page_id for line in store.log.read() if isinstance(r := line.record, PageRecord))


def like_of(page: PageRecord, at_ms: int) -> FeedbackRecord:
    decision = decision_id(page.page_id, page.drawn[0].slot)
    return FeedbackRecord("much later", decision, at_ms, page.user, page.session, "like")


# --- releases -------------------------------------------------------------------------------------


@pytest.fixture
def older(tmp_path: Path) -> Config:
    """A folder of a release that corrected nothing, in whose log there are late events."""
    config = config_of(tmp_path / "data")
    make_history(config, rounds=range(3), late=True)
    return config


def test_a_log_of_an_older_release_verifies_and_is_corrected_from_here_on(older: Config) -> None:
    verified = verify_log(older)
    assert verified.is_clean
    make_history(older, rounds=range(3, 6), late=True, corrects_ms=30 * DAY_MS)
    with open_store(older, lambda: 0) as store:
        lines = list(store.log.read())
        pages = [r for line in lines if isinstance(r := line.record, PageRecord)][:40]
        at_ms = lines[-1].record.at_ms
        store.log.append([like_of(page, at_ms) for page in pages], durable=True)
    make_history(older, rounds=range(6, 8), late=True, corrects_ms=30 * DAY_MS)
    with open_store(older, lambda: 0) as store:
        begun = [line for line in store.log.read() if isinstance(line.record, TickRecord)]
        assert [line.record.corrects_ms for line in begun if isinstance(line.record, TickRecord)]
        resumed = make_learner(older, store).learning
        learning = folded(older, store)
        assert resumed.parts() == learning.parts()
        counts = learning.late.counts
        assert counts.unknown == 40, "of the pages that were drawn before it began"
        assert counts.corrected > 40
        never = LearnerState(learning_args(older))
        never.fold([line for line in store.log.read() if line not in begun])
        assert never.policy.to_bytes() != learning.policy.to_bytes()
    after = verify_log(older)
    assert (after.mismatches, after.max_error, after.violations) == (0, 0.0, ())
    assert after.n_pages > verified.n_pages


def test_a_snapshot_of_an_older_release_is_resumed_from(older: Config) -> None:
    with open_store(older, lambda: 0) as store:
        learning = folded(older, store)
    parts = learning.parts()
    del parts[LATE]
    manifest = Manifest(1, 1, (learning.offset,), SCHEMA, 1, {})
    resumed = LearnerState.restore(Snapshot(manifest, parts), learning.args, KeptPast())
    assert resumed.offset == learning.offset
    assert resumed.late.window_ms == 0
    assert {**resumed.parts(), LATE: b""} == {**learning.parts(), LATE: b""}


def test_corrections_are_begun_once_and_ended_where_the_settings_say_so(older: Config) -> None:
    with open_store(older, lambda: 0) as store:
        for corrects_ms, n_ticks in ((DAY_MS, 1), (DAY_MS, 1), (None, 1), (0, 2), (0, 2)):
            learner = make_learner(older, store, corrects_ms)
            while learner.step():
                pass
            learner.publish(resumable=True)
            ticks = [line for line in store.log.read() if isinstance(line.record, TickRecord)]
            assert len(ticks) == n_ticks
            assert learner.learning.late.window_ms == (
                corrects_ms if corrects_ms is not None else DAY_MS
            )


def test_a_learner_that_folds_from_the_start_still_obeys_its_settings(older: Config) -> None:
    with open_store(older, lambda: 0) as store:
        learner = make_learner(older, store, DAY_MS)
        while learner.step():
            pass
        learner.publish(resumable=True)
        wider = msgspec.structs.replace(older.learner, main_sd=0.3)  # nothing can be resumed from
        again = make_learner(msgspec.structs.replace(older, learner=wider), store, 0)
        while again.step():
            pass
        assert again.learning.late.window_ms == 0


@pytest.mark.parametrize(
    ("days", "expected_ms"), [(30.0, 30 * DAY_MS), (0.0, 0), (0.5, DAY_MS // 2)]
)
def test_settings_say_for_how_long(days: float, expected_ms: int) -> None:
    assert JoinTimes(late_days=days).corrects_ms == expected_ms
