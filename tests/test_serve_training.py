"""Training from the log: the same fold as the learner's, published only through the gate."""

import shutil
from pathlib import Path

import msgspec
import pytest
from histories import config_of, make_history, make_learner

from replay.log import SqliteLog
from serve.config import Arm, Config, Experiment
from serve.learner import Learning
from serve.refused import Refused
from serve.replica import learning_args, open_database, open_snapshots
from serve.state import State
from serve.training import train_bandit
from serve.verify import verify_log

UNIFORM = Experiment("uniform", (Arm("all", "uniform"),))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of people who all got uniform pages, so that there is much to gain."""
    folder = tmp_path_factory.mktemp("made") / "data"
    make_history(config_of(folder, UNIFORM), n_people=30, rounds=range(8), publish=False)
    return folder


@pytest.fixture
def swiped(made: Path, tmp_path: Path) -> Config:
    return config_of(shutil.copytree(made, tmp_path / "swiped"), UNIFORM)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path / "data", UNIFORM)


def test_a_policy_that_is_better_on_held_out_pages_is_published(swiped: Config) -> None:
    told: list[int] = []

    trained = train_bandit(swiped, advance=told.append)

    estimate = trained.report.estimate("dr")
    assert estimate.low > trained.report.logged.value
    with open_database(swiped) as database:
        assert State(database).current_version() == trained.version
        lines = list(SqliteLog(database, now_ms=lambda: 0).read())
    assert sum(told) == len(lines)
    assert trained.version is not None
    full = Learning(learning_args(swiped))
    full.fold(lines)
    snapshot = open_snapshots(swiped).load(trained.version.version)
    assert {name: snapshot.parts[name] for name in full.parts()} == full.parts()
    assert trained.learned == full.learned


def test_the_learner_goes_on_from_a_trained_version(swiped: Config) -> None:
    trained = train_bandit(swiped)

    with open_database(swiped) as database:
        learner = make_learner(swiped, database)
    assert trained.version is not None
    assert learner.learning.offset == trained.version.offset
    treated = msgspec.structs.replace(swiped, experiment=Experiment("all", (Arm("a", "vowpal"),)))
    make_history(treated, n_people=4, rounds=range(8, 10))
    assert verify_log(treated).is_clean


def test_a_policy_that_learned_another_taste_is_not_published(config: Config) -> None:
    make_history(config, n_people=30, rounds=range(8), publish=False, turned_from=6)

    trained = train_bandit(config, holdout=0.25)

    assert trained.version is None
    with open_database(config) as database:
        assert State(database).current_version() is None
    assert open_snapshots(config).versions() == []


def test_a_folder_that_somebody_has_open_is_refused(config: Config) -> None:
    make_history(config, rounds=range(1), publish=False)
    with open_database(config), pytest.raises(Refused, match="is in use"):
        train_bandit(config)


@pytest.mark.parametrize(
    ("n_people", "rounds", "message"),
    [(1, 1, "expected pages to learn from"), (1, 8, "too little to judge by")],
)
def test_a_log_that_says_too_little_is_refused(
    config: Config, n_people: int, rounds: int, message: str
) -> None:
    make_history(config, n_people=n_people, rounds=range(rounds), publish=False)
    with pytest.raises(Refused, match=message):
        train_bandit(config)


def test_a_learner_that_started_meanwhile_is_not_overwritten(swiped: Config) -> None:
    def start_a_learner(n_lines: int) -> None:
        with open_database(swiped) as database:
            make_learner(swiped, database)

    with pytest.raises(Refused, match="another learner runs"):
        train_bandit(swiped, advance=start_a_learner)
    with open_database(swiped) as database:
        assert State(database).current_version() is None
