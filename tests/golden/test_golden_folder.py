"""A folder of the release of 29 November 2026 opens, verifies, and is learned on.

Its features are of schema 4. So its pages are drawn again by the versions kept as snapshots, and
its log is learned anew with the columns of today. `tests/golden/2026-11-29/README.md` says what is
in it. The work is done in processes of their own, with the kernels with which it was made.
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
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from histories import make_learner

from env.feedback import FIRST_KINDS
from env.pages.records import Blocks
from env.records import FeedbackRecord, Kind, PageRecord
from policies.bandit.scorer import HybridBanditScorer
from replay.evaluate.evaluate import Evaluation
from serve.config import Config, DataSettings, parse
from serve.jobs.policies import bandit_version
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


N_EVENTS = 5
"""Place of the number of learned interactions in a learned state."""

ROUNDING = 5e-4
"""Largest difference of an expected reward between two makers of processors.

VW learns with the processor's own approximate inverse square root. Its relative error is up to
1.5 / 2**12, or 3.7e-4, and each maker's differs.
"""

T = TypeVar("T")


class LastPage(msgspec.Struct, frozen=True):
    """The last page that was given out: what was asked for, shown, and not reported."""

    request: FeedRequest
    shown: list[str]
    unreported: str


class Learned(msgspec.Struct, frozen=True):
    """A version learned from the whole log, and the interactions behind it, now and then."""

    version: Activation
    n_events: int
    n_events_then: int
    refusals: dict[str, int]


class Expectations(msgspec.Struct, frozen=True):
    """Rewards expected of all candidates of the log, by the release's version and today's."""

    then: list[float]
    now: list[float]


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


def test_it_is_drawn_again_without_a_mismatch_as_far_as_versions_are_kept(home: Path) -> None:
    expected, older = expected_of(home), older_pages(home)
    found = verify(home)
    assert found.is_clean
    assert (found.n_pages, found.n_older) == (expected.pages - older, older)
    assert found.n_pages > 2 * older > 0


def test_all_of_it_is_learned_anew(home: Path) -> None:
    learned, expected = told(home, "learn_on", Learned), expected_of(home)
    assert learned.version.version == expected.next["version"]
    assert learned.version.offset == expected.lines
    assert learned.refusals == {}
    assert learned.n_events == learned.n_events_then > 1000


def test_what_is_learned_expects_the_rewards_that_the_release_expected(home: Path) -> None:
    expectations = told(home, "expect", Expectations)
    then, now = np.array(expectations.then), np.array(expectations.now)
    assert len(then) > 1000
    np.testing.assert_allclose(now, then, atol=ROUNDING)
    assert then.std() > 20.0 * ROUNDING
    assert np.abs(np.roll(now, 1) - then).max() > 20.0 * ROUNDING


def test_it_is_evaluated_and_its_propensities_hold_as_far_as_versions_are_kept(home: Path) -> None:
    options = ["--config", str(home / "nextswipe.toml"), "--data", str(home / "data")]
    words = ["evaluate", "vowpal@5", "uniform", *options, "--force", "--json"]
    found = msgspec.json.decode(program("-m", "serve.commands.main", *words), type=Evaluation)
    assert [report.policy for report in found.reports] == ["vowpal@5", "uniform@0"]
    assert found.health.calibration is not None
    assert (found.health.calibration.max_error, found.health.n_pages) == (0.0, 355)
    assert found.health.calibration.n > 1000
    assert all(report.estimate().n > 1000 for report in found.reports)


def test_it_is_served_heard_and_learned_on(home: Path) -> None:
    expected = expected_of(home)
    run("serve_on", home)
    verified = verify(home)
    assert verified.is_clean
    assert verified.n_pages + verified.n_older == expected.pages + 2
    assert verified.n_pages > verified.n_older
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
    assert kinds == set(FIRST_KINDS)
    versions = {f"{name}@{k}" for name in ("vowpal", "blend") for k in range(1, 6)}
    baselines = {"uniform@0", "popularity@0", "mixture@0", "vowpal@0"}
    assert pages.keys() >= versions | baselines
    assert (GOLDEN / "folder.tar.xz").stat().st_size <= MAX_BYTES


def expected_of(home: Path) -> Expected:
    return msgspec.json.decode((home / "expected.json").read_bytes(), type=Expected)


def config_of(home: Path) -> Config:
    config = parse((home / "nextswipe.toml").read_text())
    return msgspec.structs.replace(config, data=DataSettings(str(home / "data")))


def older_pages(home: Path) -> int:
    """Return the number of pages that were drawn by a version that is not kept."""
    config = config_of(home)
    kept = {None, 0, *open_snapshots(config).versions()}
    kinds: tuple[Kind, ...] = ("page",)
    with open_store(config, lambda: 0) as store:
        pages = [line.record for line in store.log.read(kinds=kinds)]
    policies = [page.policy for page in pages if isinstance(page, PageRecord)]
    return sum(bandit_version(policy) not in kept for policy in policies)


def verify(home: Path) -> Verified:
    """Return what `nextswipe log verify` says."""
    options = ["--config", str(home / "nextswipe.toml"), "--data", str(home / "data"), "--json"]
    told = program("-m", "serve.commands.main", "log", "verify", *options)
    return msgspec.json.decode(told, type=Verified)


def run(work: str, home: Path) -> str:
    """Return what a function below prints."""
    return program(__file__, work, str(home))


def told(home: Path, work: str, kind: type[T]) -> T:
    """Return the record that a function below prints."""
    return msgspec.json.decode(run(work, home), type=kind)


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
    """Learn the rest of the log, publish, and print what it came to."""
    config = config_of(home)
    with open_store(config, lambda: 0) as store:
        learner = make_learner(config, store)
        while learner.step():
            pass
        version = learner.publish_if_due(force=True)
    assert version is not None
    policy = learner.learning.policy
    then = msgspec.msgpack.decode((home / "next" / "model").read_bytes())[N_EVENTS]
    sys.stdout.write(
        msgspec.json.encode(Learned(version, policy.n_events, then, policy.refusals)).decode()
    )


def expect(home: Path) -> None:
    """Print the rewards that version 6 of then and of now expect of all candidates."""
    config = config_of(home)
    blocks, pages, learning = Blocks(), [], LearnerState(learning_args(config))
    with open_store(config, lambda: 0) as store:
        lines = list(store.log.read())
    for line in lines:
        blocks.fold(line.record)
        if isinstance(line.record, PageRecord):
            pages.append(line.record)
    learning.fold(lines)
    explorer = learning.args.vowpal.explorer
    then = HybridBanditScorer.from_bytes((home / "next" / "scorer").read_bytes(), explorer, 6)
    now = learning.policy.frozen(6)
    expected = Expectations([], [])
    for page in pages:
        expected.then.extend(then.predict(blocks.page(page).context).tolist())
        expected.now.extend(now.predict(blocks.page(page).context).tolist())
    sys.stdout.write(msgspec.json.encode(expected).decode())


def serve_on(home: Path) -> None:
    """Serve who is known and who is not, hear them, and learn from it."""
    config, last = config_of(home), expected_of(home).page
    at_ms = (last.request.scene.at_ms or 0) + 60_000
    with closing(FeedReplica(config, now_ms=lambda: at_ms)) as replica:
        newest = max(open_snapshots(config).versions())
        assert (newest, replica.pipeline.served.version) == (5, 0)  # 5 is of an earlier schema
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
    work.__name__: work for work in (learn_on, expect, serve_on)
}

if __name__ == "__main__":
    WORK[sys.argv[1]](Path(sys.argv[2]))
