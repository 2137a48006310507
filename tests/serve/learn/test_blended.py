"""Pages of bandit and ranker together: who gets which, and that the log alone draws them again."""

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from histories import START_MS, config_of, make_history
from random_rankers import random_ranker
from servers import open_file

from env.columns.schema import SHARED
from env.interface import page_pmfs
from env.pages.records import Blocks
from env.records import PageRecord, encode_record
from env.vocabulary import Page
from policies.bandit.scorer import HybridBanditScorer
from policies.explorers import Softmax
from replay.join.page_batches import Presumed
from serve.config import Arm, Config, Experiment
from serve.jobs.evaluate import open_evaluation
from serve.jobs.policies import behaviour
from serve.jobs.verify import verify_log
from serve.learn.rankers import publish_ranker, use_ranker
from serve.learn.settings import open_snapshots
from serve.processes.replica import FeedReplica
from serve.store.open import open_store

HALVES = Experiment("halves", (Arm("bandit", "vowpal"), Arm("blended", "blend")))
EVIDENCE = SHARED.index("evidence")
N_PEOPLE = 40
"""A hash of their pseudonyms, which are new each time, deals them to the arms."""


def settings(folder: Path) -> Config:
    """Return settings under which a user with few cards is known already."""
    config = config_of(folder, HALVES)
    retention = msgspec.structs.replace(
        config.retention, item_half=2.0, person_half=4.0, explorer=config.feed.explorer
    )
    learner = msgspec.structs.replace(config.learner, snapshots_kept=1_000)
    return msgspec.structs.replace(config, retention=retention, learner=learner)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which users swiped without, with one, with another, with no ranker."""
    folder = tmp_path_factory.mktemp("made") / "data"
    config = settings(folder)
    make_history(config, n_users=N_PEOPLE, rounds=range(2))
    for seed in (1, 2):
        publish_ranker(config, random_ranker(seed).to_bytes(), origin="a test")
        make_history(config, n_users=N_PEOPLE, rounds=range(2 * seed, 2 * seed + 2))
    use_ranker(config, 0)
    make_history(config, n_users=N_PEOPLE, rounds=range(6, 7))
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return settings(shutil.copytree(made, tmp_path / "data"))


def pages(config: Config) -> Iterator[tuple[PageRecord, Page]]:
    blocks = Blocks()
    with open_store(config, lambda: 0) as store:
        for line in store.log.read():
            blocks.fold(line.record)
            if isinstance(line.record, PageRecord):
                yield line.record, blocks.page(line.record)


def ranker_of(record: PageRecord) -> object:
    return record.explorer.get("ranker", 0)


def test_an_arm_is_blended_while_a_ranker_is_current_and_else_is_the_bandit_s(
    config: Config,
) -> None:
    by_arm: dict[str, list[tuple[str, object]]] = {}
    for record, _ in pages(config):
        kind = record.policy.partition("@")[0]
        told = by_arm.setdefault(record.arm, [])
        if (kind, ranker_of(record)) not in told[-1:]:
            told.append((kind, ranker_of(record)))
    assert by_arm == {
        "bandit": [("vowpal", 0)],
        "blended": [("vowpal", 0), ("blend", 1), ("blend", 2), ("vowpal", 0)],
    }


def test_every_page_is_drawn_again_though_the_learner_was_replaced_in_between(
    config: Config,
) -> None:
    assert verify_log(config).is_clean
    assert verify_log(config).n_pages == 7 * N_PEOPLE


def test_pages_are_drawn_again_whatever_the_settings_are_by_now(config: Config) -> None:
    retention = msgspec.structs.replace(config.retention, weight=0.1, explorer=Softmax(1.0))
    assert verify_log(msgspec.structs.replace(config, retention=retention)).is_clean


def test_the_policy_that_drew_a_page_is_found_for_evaluation(config: Config) -> None:
    find, n_blended = behaviour(config), 0
    for record, page in pages(config):
        policy = find(record)
        if record.policy == "vowpal@0":
            assert policy is None  # nothing is kept of before anything was learned
            continue
        assert policy is not None
        assert not isinstance(policy, Presumed)
        n_blended += policy.name.startswith("blend@")
        for decision, pmf in page_pmfs(page, policy):
            assert pmf[decision.action] == decision.propensity
    assert n_blended > 20


def test_the_ranker_matters_to_those_who_are_known(config: Config) -> None:
    differs = [
        any(pmf[d.action] != d.propensity for d, pmf in page_pmfs(page, bandit_of(config, record)))
        for record, page in pages(config)
        if record.policy.startswith("blend@")
    ]
    assert sum(differs) > 0.9 * len(differs) > 20


def test_a_newcomer_s_page_has_the_bandit_s_propensities_to_the_last_bit(tmp_path: Path) -> None:
    config = settings(tmp_path / "data")
    make_history(config, rounds=range(2))
    publish_ranker(config, random_ranker().to_bytes(), origin="a test")
    make_history(config, n_users=40, rounds=range(2, 3))
    n_new = 0
    for record, page in pages(config):
        if record.policy.startswith("blend@") and page.context.features.shared[EVIDENCE] == 0.0:
            n_new += 1
            for decision, pmf in page_pmfs(page, bandit_of(config, record)):
                assert pmf[decision.action] == decision.propensity
    assert n_new > 5
    assert verify_log(config).is_clean


def bandit_of(config: Config, record: PageRecord) -> HybridBanditScorer:
    version = int(record.policy.partition("@")[2])
    data = open_snapshots(config).load_part(version, "scorer")
    return HybridBanditScorer.from_bytes(data, config.feed.explorer, version)


def test_a_ranker_is_swapped_between_two_requests(config: Config) -> None:
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    try:
        replica.check()
        publish_ranker(config, random_ranker(3).to_bytes(), origin="a test")
        replica._rankers.poll()
        ranking = replica.pipeline._ranking
        assert ranking is not None
        assert ranking.version == 3
    finally:
        replica.close()


def test_the_log_is_asked_about_the_ranker_and_the_blend_by_their_names(config: Config) -> None:
    use_ranker(config, 2)
    names = ["retention", "retention@1", "blend", "blend@1"]
    with open_evaluation(config, names) as question:
        evaluation = question.answer(force=True)
    named = [report.policy for report in evaluation.reports]
    assert named[:2] == ["retention@2", "retention@1"]
    assert named[2].startswith("blend@")
    assert named[3] == "blend@1"


def _other_weight(page: PageRecord) -> PageRecord:
    given = msgspec.convert(page.explorer["settings"], dict[str, object])
    changed = {**page.explorer, "settings": {**given, "weight": 0.5}}
    return msgspec.structs.replace(page, explorer=changed)


def _other_ranker(page: PageRecord) -> PageRecord:
    return msgspec.structs.replace(page, explorer={**page.explorer, "ranker": 1})


def _other_digest(page: PageRecord) -> PageRecord:
    return msgspec.structs.replace(page, explorer={**page.explorer, "digest": "0" * 64})


@pytest.mark.parametrize(
    ("lie", "check"),
    [(_other_weight, "propensity"), (_other_ranker, "policy"), (_other_digest, "policy")],
)
def test_a_lie_about_a_blended_page_is_found(
    config: Config, lie: Callable[[PageRecord], PageRecord], check: str
) -> None:
    with open_file(config) as store:
        offset, page = [
            (line.offset, line.record)
            for line in store.log.read(kinds=["page"])
            if isinstance(line.record, PageRecord) and ranker_of(line.record) == 2
        ][-1]
        payload = encode_record(lie(page))
        store.database.write(
            lambda connection: connection.execute(
                "UPDATE log SET payload = ?, crc = ? WHERE offset = ?",
                (payload, zlib.crc32(payload), offset),
            ),
            durable=True,
        ).result()
    verified = verify_log(config)
    assert not verified.is_clean
    assert check in {violation.check for violation in verified.violations}


def test_without_its_ranker_a_page_cannot_be_drawn_again_and_that_is_said(config: Config) -> None:
    shutil.rmtree(Path(config.data.folder) / "retention" / "v000000000001")
    verified = verify_log(config)
    n = sum(ranker_of(record) == 1 for record, _ in pages(config))
    assert verified.mismatches == 4 * n
    assert all("or ranker 1 is gone" in violation.message for violation in verified.violations)
