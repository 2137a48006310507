"""The audit of a log: silent about an honest one, loud about each kind of lie."""

import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from histories import PAGE_MS, START_MS, config_of, make_history
from servers import open_file

from env.items.content import EncodedBlock, static_block
from env.records import Drawn, PageRecord, decode_record, encode_record, pack_halves
from env.vocabulary import CreatorId, Item, ItemId
from policies.explorers import Softmax
from serve.config import Arm, Config, Experiment, MixtureSettings
from serve.errors import JobError
from serve.jobs.verify import Verified, verify_log
from serve.store.generations import all_versions
from serve.store.ledger import put_items, remove_item
from serve.store.open import open_store
from serve.store.store import write_now

LATER_MS = START_MS + 64 * PAGE_MS
"""After the pages that there are."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    make_history(config_of(folder))
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Config:
    return config_of(shutil.copytree(made, tmp_path / "data"))


def test_an_honest_log_is_drawn_again_to_the_last_bit(config: Config) -> None:
    assert verify_log(config) == Verified(n_pages=64, n_decisions=256)


def test_pages_of_a_learner_that_was_replaced_are_drawn_again(config: Config) -> None:
    make_history(config, rounds=range(4, 8))

    verified = verify_log(config)

    with open_store(config, lambda: 0) as store:
        assert {version.epoch for version in all_versions(store)} == {1, 2}
    assert verified == Verified(n_pages=128, n_decisions=512)


def test_pages_of_another_explorer_are_drawn_again(config: Config) -> None:
    feed = msgspec.structs.replace(config.feed, explorer=Softmax(0.2))
    softer = msgspec.structs.replace(config, feed=feed)
    make_history(softer, rounds=range(4, 6))

    assert verify_log(softer).is_clean
    assert verify_log(config).is_clean


def test_pages_of_a_configured_mixture_are_drawn_again(tmp_path: Path) -> None:
    arms = (
        Arm("even", "mixture", mixture=MixtureSettings(0.5, 0.3)),
        Arm("usual", "mixture"),
        Arm("popular", "popularity"),
    )
    config = config_of(tmp_path / "data", Experiment("mixtures", arms))
    make_history(config, n_users=12, rounds=range(2), publish=False)

    assert verify_log(config) == Verified(n_pages=24, n_decisions=96)
    with open_store(config, lambda: 0) as store:
        pages = list(store.log.read(kinds=["page"]))
    named = {line.record.policy for line in pages if isinstance(line.record, PageRecord)}
    assert named == {"mixture@0", "popularity@0"}


def test_a_log_with_an_address_that_cannot_be_parsed_is_served_learned_on_and_drawn_again(
    config: Config,
) -> None:
    upload = Item(ItemId("x"), CreatorId("eve"), title="An upload of its own", media="http://[")
    block = pack_halves(static_block(upload))
    put = partial(
        put_items, items=[upload], blocks=[EncodedBlock(block, 0)], at_ms=LATER_MS, are_new=True
    )
    with open_store(config, lambda: 0) as store:
        write_now(store, put)
    make_history(config, rounds=range(4, 6))
    with open_store(config, lambda: 0) as store:
        write_now(store, partial(remove_item, item_id=upload.item_id, at_ms=LATER_MS))
    make_history(config, rounds=range(6, 8))

    with open_store(config, lambda: 0) as store:
        shown = [
            card
            for line in store.log.read(kinds=["page"])
            if isinstance(line.record, PageRecord)
            for card in line.record.cards
            if card.item_id == "x"
        ]
        assert len(all_versions(store)) == 8
    assert shown
    assert verify_log(config) == Verified(n_pages=128, n_decisions=512)


def test_progress_comes_to_the_length_of_the_log(config: Config) -> None:
    told: list[int] = []
    verify_log(config, told.append)
    with open_store(config, lambda: 0) as store:
        assert sum(told) == sum(1 for _ in store.log.read())


def _changed_propensity(page: PageRecord) -> PageRecord:
    first, *others = page.drawn
    changed = Drawn(first.slot, first.action, first.propensity * (1.0 + 1e-6))
    return msgspec.structs.replace(page, drawn=(changed, *others))


def _changed_action(page: PageRecord) -> PageRecord:
    *others, last = page.drawn
    free = set(range(len(page.candidates))) - {drawn.action for drawn in page.drawn}
    changed = Drawn(last.slot, min(free), last.propensity)
    return msgspec.structs.replace(page, drawn=(*others, changed))


def _stale_version(page: PageRecord) -> PageRecord:
    return msgspec.structs.replace(page, policy="vowpal@1")


def _unknown_version(page: PageRecord) -> PageRecord:
    return msgspec.structs.replace(page, policy="vowpal@77")


def _changed_features(page: PageRecord) -> PageRecord:
    return msgspec.structs.replace(page, shared=bytes(len(page.shared)))


@pytest.mark.parametrize(
    ("lie", "mismatches", "check"),
    [
        (_changed_propensity, 0, "propensity"),
        (_changed_action, 2, "draw"),
        (_stale_version, None, "propensity"),
        (_unknown_version, 4, "policy"),
        (_changed_features, None, "propensity"),
    ],
)
def test_a_lie_about_one_page_is_found(
    config: Config, lie: Callable[[PageRecord], PageRecord], mismatches: int | None, check: str
) -> None:
    page_id = _rewrite_last_learned_page(config, lie)

    verified = verify_log(config)

    assert verified.max_error > 0.0 or check == "draw"
    assert mismatches is None or verified.mismatches == mismatches
    assert check in {violation.check for violation in verified.violations}
    assert all(v.decision_id.startswith(page_id) for v in verified.violations)


def test_pages_of_an_older_encoding_are_counted_and_not_drawn_again(config: Config) -> None:
    def older(page: PageRecord) -> PageRecord:
        return msgspec.structs.replace(page, feature_schema=3, shared=page.shared[:-8])

    _rewrite_last_learned_page(config, older)
    verified = verify_log(config)
    assert (verified.n_pages, verified.n_older) == (63, 1)
    assert verified.is_clean


def test_the_size_of_an_error_is_told(config: Config) -> None:
    _rewrite_last_learned_page(config, _changed_propensity)
    assert verify_log(config).max_error == pytest.approx(1e-6, rel=1e-6)


def test_another_secret_draws_other_cards(config: Config) -> None:
    (Path(config.data.folder) / "secret.key").write_bytes(bytes(32))
    assert verify_log(config).mismatches > 0


def test_a_log_that_was_learned_otherwise_is_found(config: Config) -> None:
    learner = msgspec.structs.replace(config.learner, learning_rate=0.5)
    assert verify_log(msgspec.structs.replace(config, learner=learner)).max_error > 0.0


def test_a_folder_without_a_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"expected a data folder with nextswipe\.db"):
        verify_log(config_of(tmp_path / "nothing"))
    assert list(tmp_path.iterdir()) == []


def test_a_log_without_its_secret_is_refused(config: Config) -> None:
    (Path(config.data.folder) / "secret.key").unlink()
    with pytest.raises(JobError, match=r"expected secret\.key"):
        verify_log(config)


def _rewrite_last_learned_page(config: Config, lie: Callable[[PageRecord], PageRecord]) -> str:
    """Forge the last page of the newest version but one, crc included; return its id."""
    with open_file(config) as store:
        lines = store.log.read(kinds=["page"])
        offset, page = next(
            (line.offset, line.record)
            for line in reversed(list(lines))
            if isinstance(line.record, PageRecord) and line.record.policy == "vowpal@3"
        )
        payload = encode_record(lie(page))
        assert decode_record(payload) != page
        store.database.write(
            lambda connection: connection.execute(
                "UPDATE log SET payload = ?, crc = ? WHERE offset = ?",
                (payload, zlib.crc32(payload), offset),
            ),
            durable=True,
        ).result()
    return page.page_id


def test_one_seed_for_all_pages_is_found_though_every_page_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("serve.feed.pipeline", "serve.jobs.verify"):
        monkeypatch.setattr(f"{module}.page_seed", lambda key, page_id: 5)
    config = config_of(tmp_path / "data")
    make_history(config, n_users=30, rounds=range(8), publish=False)

    verified = verify_log(config)

    assert (verified.n_pages, verified.mismatches, verified.max_error) == (240, 0, 0.0)
    assert "independence" in {violation.check for violation in verified.violations}
    assert not verified.is_clean
