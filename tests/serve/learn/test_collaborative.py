"""Item factors as generations: trained beside the learner, published, followed, and logged."""

import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import msgspec
import numpy as np
import pytest
from histories import START_MS, config_of, make_history, make_learner
from servers import kept_in, open_kind
from waiting import wait_until

from env.columns.schema import CO_KNOWN, CO_MATCH, N_DYNAMIC, index_of
from env.records import PageRecord, item_key, unpack_halves
from env.users import fold as user_fold
from env.users.state import UserState
from env.vocabulary import UserKey
from policies.collaborative.fit import fit
from serve.config import Arm, CollaborativeSettings, Config, Experiment
from serve.jobs.verify import verify_log
from serve.learn.collaborative import (
    PART,
    CollaborativeTrainer,
    Generation,
    fit_args,
    follow_generations,
    open_generations,
)
from serve.learn.fold import LearnerState
from serve.learn.follower import ActivationFollower
from serve.learn.learner import OnlineLearner
from serve.learn.settings import learning_args
from serve.processes.replica import FeedReplica, LearnerReplica
from serve.store.generations import ActivationConflict, current_activation
from serve.store.open import open_store
from serve.store.store import Store

SETTINGS = CollaborativeSettings(
    dims=4, every_s=0.1, least_answers=50, answers=1_000, least_match_sd=0.0
)
LEARNED = Experiment("learned", (Arm("all", "vowpal"),))


def settings_of(folder: Path) -> Config:
    return msgspec.structs.replace(config_of(folder, LEARNED), collaborative=SETTINGS)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings_of(tmp_path_factory.mktemp("history") / "data")
    make_history(config)
    return config


@pytest.fixture
def config(history: Config, tmp_path: Path) -> Config:
    shutil.copytree(history.data.folder, tmp_path / "data")
    return settings_of(tmp_path / "data")


@pytest.fixture
def store(config: Config) -> Iterator[Store]:
    with open_store(config, lambda: 0) as store:
        yield store


def trainer_of(
    config: Config, store: Store, settings: CollaborativeSettings = SETTINGS
) -> CollaborativeTrainer:
    """A trainer to whom each look at its clock is a second."""
    clock = itertools.count()
    return CollaborativeTrainer(
        store, open_generations(config), settings, monotonic_s=lambda: float(next(clock))
    )


def learned(config: Config, store: Store) -> OnlineLearner:
    learner = make_learner(config, store)
    while learner.step():
        pass
    return learner


def trained(config: Config, store: Store) -> tuple[CollaborativeTrainer, LearnerState]:
    learning = learned(config, store).learning
    trainer = trainer_of(config, store)
    assert trainer.offer(learning)
    assert trainer.train() is not None
    return trainer, learning


def followed(
    config: Config, store: Store
) -> tuple[ActivationFollower[Generation], list[Generation]]:
    swapped: list[Generation] = []
    return follow_generations(store, open_generations(config), swapped.append), swapped


# --- the window is a fold of the log ---


def test_the_window_is_the_fold_of_the_log_and_a_restart_resumes_it(
    config: Config, store: Store
) -> None:
    live = learned(config, store)
    live.publish(resumable=True)
    whole = LearnerState(learning_args(config))
    whole.fold(list(store.log.read(0, 1_000_000)))
    resumed = make_learner(config, store)
    assert resumed.learning.offset == live.learning.offset, "it began from the snapshot"
    windows = [learning.window for learning in (live.learning, whole, resumed.learning)]
    assert len({window.to_bytes() for window in windows if window is not None}) == 1
    assert windows[0] is not None
    assert len(windows[0]) == 255, "the last card has not closed"


def test_without_item_factors_no_window_is_kept(config: Config) -> None:
    off = msgspec.structs.replace(SETTINGS, enabled=False)
    args = learning_args(msgspec.structs.replace(config, collaborative=off))
    assert LearnerState(args).window is None
    assert "answers" not in args.manifest_args()


# --- publishing and following ---


def test_a_generation_is_the_fit_of_the_window_at_its_offset(config: Config, store: Store) -> None:
    _, learning = trained(config, store)
    follower, swapped = followed(config, store)
    assert follower.poll()
    assert not follower.poll()
    assert learning.window is not None
    expected = fit(learning.window.answers(SETTINGS.per_user), fit_args(SETTINGS))
    assert swapped[0].factors.to_bytes() == expected.to_bytes()
    assert (swapped[0].version, follower.version) == (1, 1)
    with store.view() as view:
        activation = current_activation(view, "collaborative")
    assert activation is not None
    assert activation.offset == learning.offset


@pytest.mark.parametrize("kind", ["sqlite", "redis", "toy"])
def test_replicas_load_the_generation_by_its_row_in_any_store(
    config: Config, tmp_path: Path, kind: str
) -> None:
    with open_store(config, lambda: 0) as source:
        learning = learned(config, source).learning
    with kept_in(kind), open_kind(tmp_path / kind, lambda: 0) as store:
        learning.offset = 0  # of this store's log, which is empty
        trainer = trainer_of(config, store)
        assert trainer.offer(learning)
        assert trainer.train() is not None
        follower, swapped = followed(config, store)
        assert follower.poll()
        assert len(swapped[0].factors)
        with open_kind(tmp_path / kind, lambda: 0) as again, again.view() as view:
            activation = current_activation(view, "collaborative")
        assert activation is not None
        assert (activation.version, activation.epoch) == (1, 1)


def test_a_fit_waits_for_new_answers_and_for_its_time(config: Config, store: Store) -> None:
    many = msgspec.structs.replace(SETTINGS, least_answers=257)
    assert not trainer_of(config, store, many).offer(learned(config, store).learning)
    trainer, learning = trained(config, store)
    assert not trainer.offer(learning), "nothing is new"
    window = learning.window
    assert window is not None
    for k in range(SETTINGS.least_answers):
        window.put(k, item_key(f"i{k % 3}"), 1.0)
    assert trainer.offer(learning)
    assert not trainer.offer(learning), "one is waiting"
    assert trainer.train() is not None


def test_an_older_fold_publishes_nothing_over_a_newer_generation(
    config: Config, store: Store
) -> None:
    trained(config, store)
    older = LearnerState(learning_args(config))
    older.fold(list(store.log.read(0, 700)))
    assert older.window is not None
    assert len(older.window) >= SETTINGS.least_answers
    assert not trainer_of(config, store).offer(older)


def test_a_trainer_that_was_overtaken_publishes_nothing(config: Config, store: Store) -> None:
    learning = learned(config, store).learning
    old = trainer_of(config, store)
    assert old.offer(learning)
    trainer_of(config, store)
    with pytest.raises(ActivationConflict):
        old.train()
    follower, swapped = followed(config, store)
    assert not follower.poll()
    assert swapped == []


def test_a_fit_that_fails_is_logged_and_the_last_generation_stays(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, learning = trained(config, store)
    folder = Path(config.data.folder) / "collaborative"
    assert learning.window is not None
    for k in range(100):
        learning.window.put(k, item_key("i0"), 1.0)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    stop = Event()
    assert trainer.offer(learning)
    with caplog.at_level(logging.ERROR):
        trainer._train_safely()
    stop.set()
    assert "kept collaborative=1: the fit failed" in caplog.text
    with store.view() as view:
        assert getattr(current_activation(view, "collaborative"), "version", 0) == 1


@pytest.mark.parametrize("damage", ["cut", "missing", "other"])
def test_a_damaged_generation_is_refused_once_and_the_last_one_is_kept(
    config: Config, store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, learning = trained(config, store)
    follower, swapped = followed(config, store)
    assert follower.poll()
    assert learning.window is not None
    for k in range(100):
        learning.window.put(k, item_key("i0"), 1.0)
    assert trainer.offer(learning)
    activation = trainer.train()
    assert activation is not None
    home = Path(config.data.folder) / "collaborative" / f"v{activation.version:012d}"
    data = (home / PART).read_bytes()
    match damage:
        case "cut":
            (home / PART).write_bytes(data[:-1])
        case "missing":
            shutil.rmtree(home)
        case _:
            first = home.with_name(f"v{1:012d}")
            shutil.copyfile(first / PART, home / PART)
    with caplog.at_level(logging.WARNING):
        assert not follower.poll()
        assert not follower.poll()
    assert (len(swapped), follower.version, follower.n_refused) == (1, 1, 1)
    assert caplog.text.count("refused collaborative=2") == 1
    if damage == "cut":
        (home / PART).write_bytes(data)
        assert follower.poll()
        assert follower.version == 2


# --- pages ---


def pages_after(config: Config, offset: int) -> list[tuple[PageRecord, UserState]]:
    """The pages after an offset, each with its user's state as the log had it then."""
    states: dict[UserKey, UserState] = {}
    found = []
    with open_store(config, lambda: 0) as store:
        for line in store.log.read(0, 1_000_000):
            record = line.record
            user = getattr(record, "user", None)
            if user is None:
                continue
            if isinstance(record, PageRecord) and line.offset > offset:
                found.append((record, states[user]))
            state = user_fold.fold(states.get(user), record)
            if state is not None:
                states[user] = state
    return found


def test_pages_log_the_columns_of_the_current_generation_and_can_be_drawn_again(
    config: Config,
) -> None:
    with open_store(config, lambda: 0) as store:
        _, learning = trained(config, store)
        follower, swapped = followed(config, store)
        assert follower.poll()
        offset = learning.offset
    make_history(config, rounds=range(4, 6))
    at = [index_of(CO_MATCH), index_of(CO_KNOWN)]
    pages = pages_after(config, offset)
    assert len(pages) == 32
    for page, state in pages:
        logged = unpack_halves(page.dynamic).reshape(-1, N_DYNAMIC)[:, at]
        taste = swapped[0].factors.taste_of(state)
        assert taste is not None
        keys = np.array([item_key(i) for i in page.candidates], dtype=np.uint64)
        expected = np.stack(taste.columns(keys), axis=1).astype(np.float16)
        assert logged.tolist() == expected.astype(np.float32).tolist()
        assert (logged[:, 1] > 0.0).any()
    assert any("collaborative" in page.reasons for page, _ in pages)
    verified = verify_log(config)
    assert verified.is_clean
    assert verified.n_pages == 64 + 32


def test_the_learner_trains_beside_learning_and_a_replica_follows(config: Config) -> None:
    learner = LearnerReplica(config, now_ms=lambda: START_MS)
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        wait_until(lambda: replica.pipeline.learned.version == 1)
        learner.check()
        replica.check()
    finally:
        learner.close()
        replica.close()
    restarted = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        assert restarted.pipeline.learned.version == 1
    finally:
        restarted.close()


def test_switched_off_nothing_is_trained(config: Config) -> None:
    off = msgspec.structs.replace(SETTINGS, enabled=False)
    learner = LearnerReplica(
        msgspec.structs.replace(config, collaborative=off), now_ms=lambda: START_MS
    )
    learner.close()
    assert open_generations(config).versions() == []
