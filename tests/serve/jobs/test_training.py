"""Training from the log: the same fold as the learner's, published only through the gate."""

import shutil
from pathlib import Path

import msgspec
import pytest
from histories import config_of, make_history, make_learner
from servers import open_file

from env.records import PageRecord
from replay.evaluate.gates import Gates
from serve.config import Arm, Config, Experiment
from serve.errors import JobError
from serve.jobs.train_bandit import train_bandit
from serve.jobs.verify import verify_log
from serve.learn.fold import LearnerState
from serve.learn.gate import Gate
from serve.learn.settings import learning_args, open_snapshots
from serve.store.data_folder import count_lines
from serve.store.generations import current_version
from serve.store.open import open_store

UNIFORM = Experiment("uniform", (Arm("all", "uniform"),))
LENIENT = Gate(gates=Gates(min_ess=50.0))
NO_GATE = Gate(1e9, Gates(min_users=0, min_ess=0.0, max_weight_share=1.0, max_weight_error=1e9))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of users who all got uniform pages, so that there is much to gain."""
    folder = tmp_path_factory.mktemp("made") / "data"
    make_history(config_of(folder, UNIFORM), n_users=30, rounds=range(8), publish=False)
    return folder


@pytest.fixture
def swiped(made: Path, tmp_path: Path) -> Config:
    return config_of(shutil.copytree(made, tmp_path / "swiped"), UNIFORM)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path / "data", UNIFORM)


def test_a_policy_that_is_better_on_held_out_pages_is_published(swiped: Config) -> None:
    told: list[int] = []

    trained = train_bandit(swiped, gate=LENIENT, advance=told.append)

    assert trained.refusals == ()
    assert trained.report.gain is not None
    assert trained.report.gain.low > 0.0
    with open_store(swiped, lambda: 0) as store:
        assert current_version(store) == trained.version
        lines = list(store.log.read())
    assert sum(told) == len(lines) == count_lines(swiped)
    assert trained.version is not None
    full = LearnerState(learning_args(swiped))
    full.fold(lines)
    snapshot = open_snapshots(swiped).load(trained.version.version)
    assert {name: snapshot.parts[name] for name in full.parts()} == full.parts()
    assert trained.learned == full.learned


def test_it_is_judged_on_the_latest_pages_by_what_was_learned_before_them(swiped: Config) -> None:
    trained = train_bandit(swiped, holdout=0.25, gate=NO_GATE)
    with open_store(swiped, lambda: 0) as store:
        lines = list(store.log.read())
    drawn_ms = [line.record.at_ms for line in lines if isinstance(line.record, PageRecord)]
    health = trained.report.health.log
    assert health.n_pages == round(0.25 * len(drawn_ms))
    assert health.first_ms == sorted(drawn_ms)[-health.n_pages]
    assert health.last_ms == max(drawn_ms)
    assert trained.report.health.n == 4 * health.n_pages


def test_the_learner_goes_on_from_a_trained_version(swiped: Config) -> None:
    trained = train_bandit(swiped, gate=LENIENT)

    with open_store(swiped, lambda: 0) as store:
        learner = make_learner(swiped, store)
    assert trained.version is not None
    assert learner.learning.offset == trained.version.offset
    treated = msgspec.structs.replace(swiped, experiment=Experiment("all", (Arm("a", "vowpal"),)))
    make_history(treated, n_users=4, rounds=range(8, 10))
    assert verify_log(treated).is_clean


def test_a_policy_that_learned_another_taste_is_not_published_and_nothing_is_changed(
    config: Config,
) -> None:
    make_history(config, n_users=30, rounds=range(8), publish=False, turned_from=6)
    before = _rows(config)

    trained = train_bandit(config, holdout=0.25, gate=LENIENT)

    assert trained.version is None
    assert [refusal.partition(":")[0] for refusal in trained.refusals] == ["harm"]
    assert _rows(config) == before
    assert open_snapshots(config).versions() == []


def test_a_holdout_that_says_too_little_holds_a_better_policy_back(swiped: Config) -> None:
    trained = train_bandit(swiped)
    assert trained.version is None
    assert trained.report.gain is not None
    assert trained.report.gain.low > 0.0
    (refusal,) = trained.refusals
    assert refusal.startswith("effective sample size: expected at least 500 decisions, got ")


@pytest.mark.parametrize(
    ("n_users", "rounds", "message"),
    [(1, 1, "expected pages to learn from"), (1, 8, "too little to judge by")],
)
def test_a_log_that_says_too_little_is_refused(
    config: Config, n_users: int, rounds: int, message: str
) -> None:
    make_history(config, n_users=n_users, rounds=range(rounds), publish=False)
    with pytest.raises(JobError, match=message):
        train_bandit(config)


def test_a_learner_that_started_meanwhile_is_not_overwritten(swiped: Config) -> None:
    def start_a_learner(n_lines: int) -> None:
        with open_store(swiped, lambda: 0) as store:
            make_learner(swiped, store)

    with pytest.raises(JobError, match="another writer has made one current"):
        train_bandit(swiped, gate=LENIENT, advance=start_a_learner)
    with open_store(swiped, lambda: 0) as store:
        assert current_version(store) is None


def _rows(config: Config) -> list[tuple[object, ...]]:
    """Return all that the database says of versions, epochs and the log's end."""
    with open_file(config) as store, store.database.reader() as connection:
        return [
            *connection.execute("SELECT * FROM marks ORDER BY name"),
            *connection.execute("SELECT * FROM activations"),
            *connection.execute("SELECT max(offset), count(*) FROM log"),
        ]
