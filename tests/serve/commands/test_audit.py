"""`nextswipe audit` on a data folder in which users swiped and uploads had their debut."""

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from histories import START_MS, config_of, make_history
from typer.testing import CliRunner, Result

from env.fair_start.settings import FairStart
from env.records import FeedbackRecord, PageRecord
from env.vocabulary import CreatorId, ItemId
from policies.snapshots import Manifest
from serve.audit.read import AUDIENCES, fold_log, read_snapshot
from serve.audit.response import Audit
from serve.commands.main import app
from serve.config import Arm, Config, Experiment
from serve.learn.settings import open_snapshots
from serve.processes.replica import FeedReplica
from serve.store.generations import activate
from serve.store.open import open_store
from serve.store.store import Activation, write_now
from serve.wire.items import ItemBody, ItemsRequest

OWED = 6
UPLOADS = {"late-gb": "GB", "late-th": "TH", "quick-gb": "GB"}
SETTINGS = f"""
[fair_start]
impressions = {OWED}
budget = 0.2

[learner]
bits = 12
"""
runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def _config(folder: Path) -> Config:
    uniform = Experiment("one", (Arm("all", "uniform"),))
    fair = FairStart(impressions=OWED, budget=0.2)
    return msgspec.structs.replace(config_of(folder, uniform), fair_start=fair)


def _upload(config: Config) -> None:
    """Put items that are new to the public."""
    replica = FeedReplica(config, now_ms=lambda: START_MS)
    bodies = [
        ItemBody(
            item_id=ItemId(name),
            creator=CreatorId(f"of {name}"),
            title=f"Film of {name}",
            tags=("good",) if "quick" in name else ("dull",),
            duration_s=30.0,
            published_ms=START_MS,
            country=country,
        )
        for name, country in UPLOADS.items()
    ]
    try:
        asyncio.run(_put(replica, bodies))
    finally:
        replica.close()


async def _put(replica: FeedReplica, bodies: Sequence[ItemBody]) -> None:
    await replica.engine.shelf.put_many(ItemsRequest(tuple(bodies)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data in it, of which the last version knows all, and its settings."""
    home = tmp_path_factory.mktemp("made")
    config = _config(home / "data")
    _upload(config)
    make_history(config, rounds=range(3))
    (home / "nextswipe.toml").write_text(SETTINGS)
    return home


def _run(home: Path, *words: str, code: int = 0) -> Result:
    at = ["--config", str(home / "nextswipe.toml"), "--data", str(home / "data")]
    done = runner.invoke(app, ["audit", *words, *at])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


def _told(home: Path, *words: str) -> Audit:
    return msgspec.json.decode(_run(home, *words, "--json").stdout, type=Audit)


def _seen(home: Path, item: str) -> int:
    """Return how many of an item's cards were seen, by the log's own lines."""
    with open_store(_config(home / "data"), lambda: 0) as store:
        records = [line.record for line in store.log.read()]
    cards = {
        f"{page.page_id}:{drawn.slot}": card.item_id
        for page in records
        if isinstance(page, PageRecord)
        for drawn, card in zip(page.drawn, page.cards, strict=True)
    }
    seen = {
        record.decision_id
        for record in records
        if isinstance(record, FeedbackRecord) and record.kind == "impression"
    }
    return sum(cards[decision] == item for decision in seen)


def test_the_audit_tells_what_the_log_says(made: Path) -> None:
    audit = _told(made)
    told = {upload.item_id: upload for upload in audit.uploads}
    assert told.keys() == UPLOADS.keys()
    for name, country in UPLOADS.items():
        upload = told[ItemId(name)]
        assert (upload.country, upload.owed, upload.born_ms) == (country, OWED, START_MS)
        assert upload.hours_to_paid is None or upload.impressions >= OWED
    # The last card of the log may not have closed: no line came after it.
    assert 0 <= _seen(made, "quick-gb") - told[ItemId("quick-gb")].impressions <= 1
    paid = [min(upload.impressions, OWED) for upload in audit.uploads]
    assert (audit.floor.uploads, audit.floor.owed, audit.floor.paid) == (3, 3 * OWED, sum(paid))
    assert audit.floor.paid > 0
    assert sum(upload.impressions for upload in audit.uploads) < audit.videos.impressions
    assert audit.videos.n == 33


def test_the_log_folded_again_says_the_same(made: Path) -> None:
    snapshot = _run(made, "--json").stdout
    assert _run(made, "--json", "--from-log").stdout == snapshot
    config = _config(made / "data")
    audiences = fold_log(config).audiences
    assert audiences.to_bytes() == read_snapshot(config).audiences.to_bytes()


def test_a_log_that_goes_on_is_folded_up_to_the_snapshot(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home")
    before = _told(home)
    make_history(_config(home / "data"), rounds=range(3, 4), publish=False)
    assert _told(home, "--from-log") == before
    assert _told(home) == before


def test_progress_comes_to_the_lines_that_the_snapshot_knows(made: Path) -> None:
    told: list[int] = []
    folds = fold_log(_config(made / "data"), told.append)
    assert sum(told) == folds.offset


def test_the_tables_name_every_home_and_upload(made: Path) -> None:
    shown = _run(made).stdout
    for words in ("the audience owed", "GB", "TH", "the pools", *UPLOADS, "Gini", "guards:"):
        assert words in shown
    assert "18 impressions promised to 3 uploads" in shown


def test_one_market_is_told_alone(made: Path) -> None:
    audit = _told(made, "--market", "TH")
    assert [upload.item_id for upload in audit.uploads] == ["late-th"]
    assert [market.market for market in audit.markets] == ["TH"]
    assert audit.videos.n == 1
    assert "late-gb" not in _run(made, "--market", "TH").stdout


def test_a_market_without_uploads_is_told_as_empty(made: Path) -> None:
    audit = _told(made, "--market", "VN")
    assert (audit.floor.uploads, audit.uploads, audit.videos.n) == (0, (), 0)
    assert "No upload is owed an audience yet." in _run(made, "--market", "VN").stdout


def test_uploads_that_are_told_can_be_limited(made: Path) -> None:
    audit = _told(made, "--uploads", "2")
    assert (len(audit.uploads), audit.n_uploads) == (2, 3)
    assert "the latest 1 of 3 uploads" in _run(made, "--uploads", "1").stdout


def test_page_and_picture_are_written(made: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "audit.html", tmp_path / "audit.png"
    _run(made, "--html", str(page), "--picture", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert all(name in text for name in UPLOADS)
    assert "<svg" in text


def test_without_a_snapshot_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "nextswipe.toml").write_text(SETTINGS)
    config = _config(tmp_path / "data")
    _upload(config)
    assert "nothing was published yet" in _run(tmp_path, code=2).stderr
    assert [upload.item_id for upload in _told(tmp_path, "--from-log").uploads] == sorted(UPLOADS)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nextswipe.toml").write_text(SETTINGS)
    for words in ((), ("--from-log",)):
        stderr = _run(tmp_path, *words, code=2).stderr
        assert "expected a data folder with nextswipe.db, found none" in stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--market", "britain"], "--market: expected a country as GB, got britain"),
        (["--html", "no/such/folder/a.html"], "--html: expected a file in a folder that is there"),
        (["--picture", "audit.gif"], "audit.gif: expected a file that ends in .png, .svg, .pdf"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    made: Path, words: list[str], message: str
) -> None:
    assert message in _run(made, *words, code=2).stderr


def test_a_snapshot_of_an_older_release_is_refused(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home")
    config = _config(home / "data")
    store = open_snapshots(config)
    newest = store.load(store.versions()[-1])
    parts = {name: data for name, data in newest.parts.items() if name != AUDIENCES}
    _publish(config, newest.manifest, parts)
    assert "without 'audiences'" in _run(home, code=2).stderr
    assert len(_told(home, "--from-log").uploads) == 3


def test_a_broken_snapshot_is_refused(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home")
    config = _config(home / "data")
    store = open_snapshots(config)
    newest = store.load(store.versions()[-1])
    _publish(config, newest.manifest, {**newest.parts, AUDIENCES: b"nothing"})
    assert "cannot be decoded" in _run(home, code=2).stderr


def _publish(config: Config, manifest: Manifest, parts: dict[str, bytes]) -> None:
    """Publish the next version, of the same offset, with these parts."""
    following = msgspec.structs.replace(manifest, version=manifest.version + 1, parts={})
    written = open_snapshots(config).publish(following, parts)
    version = Activation(written.version, written.epoch, written.offsets[0], written.digest)
    with open_store(config, lambda: 0) as store:
        write_now(store, partial(activate, activation=version))
