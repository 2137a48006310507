"""A folder of the release of 29 November 2026 opens, verifies, and is learned on to the same bytes.

`tests/golden/2026-11-29/README.md` says what is in it. The work is done in processes of their own,
which compute with the kernels with which it was made, whatever processor this is.
"""

import asyncio
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from histories import make_learner

from env.records import FEEDBACK_KINDS, FeedbackRecord, PageRecord
from serve.config import Config, DataSettings, parse
from serve.jobs.verify import Verified
from serve.learn.fold import LearnerState
from serve.learn.settings import learning_args, open_snapshots
from serve.processes.replica import FeedReplica
from serve.store.generations import current_version
from serve.store.open import open_store
from serve.store.store import Activation
from serve.wire.feed import Event, FeedbackRequest, FeedRequest, FeedResponse, SceneBody

GOLDEN = Path(__file__).parent / "2026-11-29"
MAX_BYTES = 1_500_000
DEADLINE_S = 600.0
KERNELS = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}


class LastPage(msgspec.Struct, frozen=True):
    """The last page that was given out: what was asked for, shown, and not reported."""

    request: FeedRequest
    shown: list[str]
    unreported: str


class Expected(msgspec.Struct, frozen=True):
    """What the release said about the folder, and came to on it."""

    pages: int
    decisions: int
    lines: int
    kinds: dict[str, int]
    page: LastPage
    published: dict[str, int | str]
    next: dict[str, int | str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with tarfile.open(GOLDEN / "folder.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_it_is_drawn_again_without_a_mismatch(home: Path) -> None:
    expected = expected_of(home)
    assert verify(home) == Verified(n_pages=expected.pages, n_decisions=expected.decisions)


def test_the_next_version_that_is_learned_is_that_release_s_byte_for_byte(home: Path) -> None:
    version = msgspec.json.decode(run("learn_on", home), type=Activation)
    assert version._asdict() == expected_of(home).next
    kept, learned = home / "next", home / "data" / "snapshots" / f"v{version.version:012d}"
    assert contents(learned) == contents(kept)


def test_its_log_comes_to_the_same_bytes_from_its_start(home: Path) -> None:
    run("fold_all", home)
    parts = {name: (home / "next" / name).read_bytes() for name in contents(home / "folded")}
    assert contents(home / "folded") == parts
    assert {"model", "items", "audiences", "join"} <= parts.keys()


def test_it_is_served_heard_and_learned_on(home: Path) -> None:
    expected = expected_of(home)
    run("serve_on", home)
    verified = verify(home)
    assert verified.is_clean
    assert (verified.n_pages, verified.mismatches) == (expected.pages + 2, 0)
    with open_store(config_of(home), lambda: 0) as store:
        version = current_version(store)
    assert version is not None
    assert version.offset > expected.lines


def test_it_holds_all_that_a_log_may_hold(home: Path) -> None:
    expected, pages, kinds = expected_of(home), Counter[str](), set[str]()
    with open_store(config_of(home), lambda: 0) as store:
        assert current_version(store) == Activation(**expected.published)  # type: ignore[arg-type]
        records = [line.record for line in store.log.read()]
    for record in records:
        if isinstance(record, PageRecord):
            pages[record.policy] += 1
        if isinstance(record, FeedbackRecord):
            kinds.add(record.kind)
    assert Counter(type(record).__name__ for record in records) == expected.kinds
    assert kinds == set(FEEDBACK_KINDS)
    versions = {f"{name}@{k}" for name in ("vowpal", "blend") for k in range(1, 6)}
    baselines = {"uniform@0", "popularity@0", "mixture@0", "vowpal@0"}
    assert pages.keys() >= versions | baselines
    assert (GOLDEN / "folder.tar.xz").stat().st_size <= MAX_BYTES


def expected_of(home: Path) -> Expected:
    return msgspec.json.decode((home / "expected.json").read_bytes(), type=Expected)


def config_of(home: Path) -> Config:
    config = parse((home / "nextswipe.toml").read_text())
    return msgspec.structs.replace(config, data=DataSettings(str(home / "data")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def verify(home: Path) -> Verified:
    """Return what `nextswipe log verify` says."""
    options = ["--config", str(home / "nextswipe.toml"), "--data", str(home / "data"), "--json"]
    told = program("-m", "serve.commands.main", "log", "verify", *options)
    return msgspec.json.decode(told, type=Verified)


def run(work: str, home: Path) -> str:
    """Return what a function below prints."""
    return program(__file__, work, str(home))


def program(*words: str) -> str:
    """Return what a program of Python prints, with the kernels of the folder."""
    around = os.environ | KERNELS | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *words],
        env=around,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- what is run in processes of their own ---


def learn_on(home: Path) -> None:
    """Learn the rest of the log, publish, and print the version."""
    config = config_of(home)
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        while learner.step():
            pass
        version = learner.publish_if_due(force=True)
    sys.stdout.write(msgspec.json.encode(version).decode())


def fold_all(home: Path) -> None:
    """Fold the whole log, and write the parts of what comes out."""
    config = config_of(home)
    learning = LearnerState(learning_args(config))
    with open_store(config, lambda: 0) as store:
        learning.fold(list(store.log.read()))
    scorer = learning.policy.frozen(int(expected_of(home).next["version"])).to_bytes()
    (home / "folded").mkdir()
    for name, part in {**learning.parts(), "scorer": scorer}.items():
        (home / "folded" / name).write_bytes(part)


def serve_on(home: Path) -> None:
    """Serve who is known and who is not, hear them, and learn from it."""
    config, last = config_of(home), expected_of(home).page
    at_ms = (last.request.scene.at_ms or 0) + 60_000
    with closing(FeedReplica(config, now_ms=lambda: at_ms)) as replica:
        newest = max(open_snapshots(config).versions())
        assert replica.pipeline.served.version == newest == 5
        asyncio.run(_swipe(replica, last, at_ms))
    learn_on(home)


async def _swipe(replica: FeedReplica, last: LastPage, at_ms: int) -> None:
    engine = replica.engine
    before = await engine.feed(last.request)
    assert [card.item_id for card in before.items] == last.shown
    given = [last.unreported]
    for user_id in ("mia", "a user new"):
        scene = SceneBody(country="SG", at_ms=at_ms)
        page: FeedResponse = await engine.feed(FeedRequest(user_id, size=5, scene=scene))
        assert len(page.items) == 5
        given += [card.decision_id for card in page.items]
    events = tuple(
        Event(f"{kind} {k}", decision, kind, at_ms + 10_000 * k)
        for k, decision in enumerate(given)
        for kind in ("impression", "like", "leave")
    )
    told = await engine.feedback(FeedbackRequest(events))
    assert (told.accepted, told.refused) == (len(events), ())


WORK: dict[str, Callable[[Path], None]] = {
    work.__name__: work for work in (learn_on, fold_all, serve_on)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](Path(sys.argv[2]))
