"""Rankers as generations: what may be published, which is current, and what a replica follows."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from histories import config_of, make_history
from random_rankers import random_ranker
from typer.testing import CliRunner, Result

from env.columns.schema import N_ACTION, N_SHARED, SCHEMA
from policies.snapshots import Manifest
from serve.commands.main import app
from serve.config import Arm, Config, Experiment
from serve.errors import JobError
from serve.jobs.backup import backup, restore
from serve.jobs.policies import find_policy, learned_until
from serve.learn.follower import ActivationFollower
from serve.learn.rankers import (
    PART,
    Ranking,
    follow_rankers,
    list_rankers,
    load_ranking,
    open_rankers,
    publish_ranker,
    use_ranker,
)
from serve.store.generations import NOTHING, ActivationConflict, activate_after, current_activation
from serve.store.open import open_store
from serve.store.store import Activation, Store, write_now

BLENDED = Experiment("blended", (Arm("all", "blend"),))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_of(tmp_path / "data", BLENDED)
    open_store(config, lambda: 0).close()
    return config


@pytest.fixture
def store(config: Config) -> Iterator[Store]:
    with open_store(config, lambda: 0) as store:
        yield store


def publish(config: Config, seed: int = 0, origin: str = "a test") -> int:
    return publish_ranker(config, random_ranker(seed).to_bytes(), origin=origin).version


def follow(
    config: Config, store: Store
) -> tuple[ActivationFollower[Ranking | None], list[Ranking | None]]:
    swapped: list[Ranking | None] = []
    return follow_rankers(store, open_rankers(config), swapped.append), swapped


# --- publishing ---


def test_a_published_ranker_is_kept_and_current(config: Config) -> None:
    assert [publish(config, 1, "first"), publish(config, 2, "second")] == [1, 2]
    told = [(r.version, r.origin, r.is_current) for r in list_rankers(config)]
    assert told == [(1, "first", False), (2, "second", True)]
    kept = load_ranking(open_rankers(config), 1)
    assert kept.ranker.to_bytes() == random_ranker(1).to_bytes()


def test_rankers_are_never_dropped_as_pages_cannot_be_drawn_again_without_them(
    config: Config,
) -> None:
    for seed in range(12):
        publish(config, seed)
    assert open_rankers(config).versions() == list(range(1, 13))


@pytest.mark.parametrize(
    ("columns", "got"),
    [
        ({"n_user": N_SHARED + 1}, f"got {N_SHARED + 1} and {N_ACTION}"),
        ({"n_item": 3}, f"got {N_SHARED} and 3"),
    ],
)
def test_a_ranker_of_other_columns_is_refused_and_nothing_is_kept(
    config: Config, columns: dict[str, int], got: str
) -> None:
    data = random_ranker(**columns).to_bytes()
    with pytest.raises(JobError, match=f"as the feed encodes them .*{got}"):
        publish_ranker(config, data, origin="the world")
    assert list_rankers(config) == []


@pytest.mark.parametrize("data", [b"", b"no ranker", random_ranker().to_bytes()[:-4]])
def test_bytes_that_are_no_ranker_are_refused(config: Config, data: bytes) -> None:
    with pytest.raises(JobError, match="the ranker cannot be published: expected"):
        publish_ranker(config, data, origin="a test")


def test_without_a_log_nothing_is_published(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="expected a data folder"):
        publish(config_of(tmp_path / "nothing"))
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_decide_at_once_one_is_refused(store: Store) -> None:
    def move(version: int, known: Activation) -> Activation:
        digest = f"d{version}"
        return write_now(store, lambda t: activate_after(t, known, version, digest, "ranker"))

    first = move(1, Activation())
    with pytest.raises(ActivationConflict, match=r"expected epoch 0 of the ranker .*, got 1"):
        move(2, Activation())
    second = move(2, first)
    with store.view() as view:
        assert current_activation(view, "ranker") == second == Activation(2, 2, 0, "d2")


def test_one_can_go_back_to_an_older_ranker_and_to_none(config: Config) -> None:
    publish(config, 1), publish(config, 2)
    assert use_ranker(config, 1).epoch == 3
    assert [r.is_current for r in list_rankers(config)] == [True, False]
    assert use_ranker(config, 0) == Activation(0, 4)
    assert not any(r.is_current for r in list_rankers(config))
    with pytest.raises(JobError, match=r"a ranker that is kept \(1, 2\), got 3"):
        use_ranker(config, 3)


# --- following ---


def test_each_move_is_followed_once(config: Config, store: Store) -> None:
    follower, swapped = follow(config, store)
    assert not follower.poll()
    for version in (1, 2):
        publish(config, version)
        assert [follower.poll(), follower.poll()] == [True, False]
        assert follower.version == version
    use_ranker(config, 0)
    assert [follower.poll(), follower.version] == [True, 0]
    assert [ranking and ranking.version for ranking in swapped] == [1, 2, None]


def test_a_ranking_names_the_sha256_of_the_ranker(config: Config, store: Store) -> None:
    publish(config)
    follower, swapped = follow(config, store)
    follower.poll()
    (ranking,) = swapped
    assert ranking is not None
    assert ranking.digest == open_rankers(config).manifest(1).parts[PART].sha256


def _break(config: Config) -> str:
    (_home(config) / PART).write_bytes(b"something else")
    return "expected"


def _remove(config: Config) -> str:
    shutil.rmtree(_home(config))
    return "no snapshot of version 2"


def _exchange(config: Config) -> str:
    _rewrite(config, args={"origin": "another user"})
    return "is not the one that was published"


def _home(config: Config) -> Path:
    return Path(config.data.folder) / "retention" / "v000000000002"


def _rewrite(config: Config, **changes: object) -> None:
    path = _home(config) / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changes)))


@pytest.mark.parametrize("harm", [_break, _remove, _exchange])
def test_a_ranker_that_cannot_be_used_is_left_alone_and_said_once(
    config: Config, store: Store, harm: object, caplog: pytest.LogCaptureFixture
) -> None:
    follower, swapped = follow(config, store)
    publish(config, 1)
    follower.poll()
    publish(config, 2)
    assert callable(harm)
    message = harm(config)
    with caplog.at_level(logging.WARNING):
        assert [follower.poll(), follower.poll()] == [False, False]
    (record,) = caplog.records
    assert "kept ranker=1, refused ranker=2" in record.getMessage()
    assert message in record.getMessage()
    assert (follower.n_refused, follower.version, len(swapped)) == (1, 1, 1)


def test_a_ranker_of_another_feature_schema_is_refused_in_words(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    publish(config, 1), publish(config, 2)
    _rewrite(config, feature_schema=3)
    digest = open_rankers(config).manifest(2).digest
    with store.view() as view:
        known = current_activation(view, "ranker") or NOTHING
    write_now(store, lambda t: activate_after(t, known, 2, digest, "ranker"))
    follower, swapped = follow(config, store)
    with caplog.at_level(logging.WARNING):
        assert not follower.poll()
    assert f"expected feature schema 4 or {SCHEMA}, got 3" in caplog.text
    assert swapped == []


# --- the commands ---


def run(config: Config, *words: str) -> Result:
    return CliRunner().invoke(app, ["retention", *words, "--data", config.data.folder])


def test_a_file_is_published_listed_and_taken_back(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "ranker.safetensors"
    random_ranker().to_file(file)
    told = run(config, "publish", str(file))
    assert told.output.splitlines() == [
        "ranker 1 is current",
        'no arm of the experiment has policy "blend" yet: nobody is served by it',
    ]
    told = run(config, "publish", str(file), "--origin", "again", "--json")
    assert msgspec.json.decode(told.output) == {
        "version": 2,
        "origin": "again",
        "offset": 0,
        "is_current": True,
    }
    assert run(config, "use", "1").output == "ranker 1 is current\n"
    assert [line.split() for line in run(config, "list").output.splitlines()] == [
        ["*", "1", "ranker.safetensors"],
        ["2", "again"],
    ]
    assert run(config, "use", "0").output == "the bandit serves alone\n"
    assert not any(
        r["is_current"] for r in msgspec.json.decode(run(config, "list", "--json").output)
    )


def test_mistakes_are_answered_in_words(config: Config, tmp_path: Path) -> None:
    alone, world = tmp_path / "alone.safetensors", tmp_path / "world.safetensors"
    alone.write_bytes(random_ranker().to_bytes())
    random_ranker(n_user=3, n_item=4).to_file(world)
    for words, message in (
        (("publish", str(alone)), "expected a ranker and its manifest alone.safetensors.json"),
        (("publish", str(world)), "as the feed encodes them"),
        (("publish", str(tmp_path / "none")), "expected a ranker and its manifest none.json"),
        (("use", "4"), "expected a ranker that is kept (none), got 4"),
    ):
        told = run(config, *words)
        assert (told.exit_code, message in told.stderr) == (2, True), told.stderr
    assert run(config, "list").output == ""


# --- names and backups ---


def test_policies_are_found_by_the_ranker_s_names(config: Config) -> None:
    make_history(config, n_users=4, rounds=range(2))
    with open_store(config, lambda: 0) as store:
        for name in ("retention", "blend"):
            with pytest.raises(JobError, match="got none that is current: publish one"):
                find_policy(config, store, name)
        publish(config, 1), publish(config, 2)
        assert find_policy(config, store, "retention").name == "retention@2"
        assert find_policy(config, store, "retention@1").name == "retention@1"
        assert find_policy(config, store, "blend").name == "blend@2"
        old = find_policy(config, store, "blend@1")
        assert (old.name, old.explorer["ranker"]) == ("blend@1", 2)
        with pytest.raises(JobError, match=r"kept \(1, 2\), got 7"):
            find_policy(config, store, "retention@7")


def test_what_a_policy_learned_from_is_what_any_part_of_it_did(config: Config) -> None:
    make_history(config, n_users=4, rounds=range(2))
    data = random_ranker().to_bytes()
    publish_ranker(config, data, origin="from the log", offset=999_999)
    publish_ranker(config, data, origin="simulated")
    with open_store(config, lambda: 0) as store:
        bandit = learned_until(config, store, find_policy(config, store, "vowpal"))
        assert bandit > 0
        assert learned_until(config, store, find_policy(config, store, "retention@1")) == 999_999
        assert learned_until(config, store, find_policy(config, store, "retention@2")) == 0
        assert learned_until(config, store, find_policy(config, store, "blend")) == bandit


def test_a_backup_holds_all_rankers(config: Config, tmp_path: Path) -> None:
    make_history(config, n_users=4, rounds=range(1))
    publish(config, 1), publish(config, 2)
    backup(config, tmp_path / "copy", 1)
    there = config_of(tmp_path / "there", BLENDED)
    restore(there, tmp_path / "copy")
    assert list_rankers(there) == list_rankers(config)
    part = tmp_path / "copy" / "retention" / "v000000000001" / PART
    part.write_bytes(bytes(len(part.read_bytes())))
    with pytest.raises(JobError, match="its sha256 is not the manifest's"):
        restore(config_of(tmp_path / "elsewhere"), tmp_path / "copy")
