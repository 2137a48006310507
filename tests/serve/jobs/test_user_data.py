"""Data of one user: exported whole and in plain words, or forgotten, on both stores."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from histories import START_MS, catalogue, config_of, make_history
from past import write_history
from redises import shared_url
from typer.testing import CliRunner

from env.records import FeedbackRecord, PageRecord
from env.vocabulary import UserId
from serve.commands.main import app
from serve.config import Config, StoreSettings
from serve.errors import JobError
from serve.importers.history import read
from serve.jobs.import_data import import_items
from serve.jobs.import_users import import_views
from serve.jobs.user_data import export_user, forget_user
from serve.store.data_folder import open_data

LATER_MS = START_MS + 40 * 86_400_000


@pytest.fixture(params=["sqlite", "redis"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Return a folder in which users swiped, after a history of theirs was imported."""
    config = config_of(tmp_path / "data")
    if request.param == "redis":
        store = StoreSettings(shared_url(), f"user-data-{os.getpid()}-{tmp_path.name}", shards=2)
        config = msgspec.structs.replace(config, store=store)
    import_items(config, catalogue(), START_MS)
    path = write_history(tmp_path / "h.csv", 2, 3)
    import_views(config, read(path, START_MS), START_MS, path.name)
    make_history(config, n_users=3, rounds=range(2), publish=False)
    return config


def exported(config: Config, user: str, file: Path) -> list[dict[str, Any]]:
    n = export_user(config, UserId(user), file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == n
    return lines


def test_all_that_is_kept_of_a_user_is_told_and_nothing_of_others(
    config: Config, tmp_path: Path
) -> None:
    lines = exported(config, "p1", tmp_path / "p1.jsonl")
    with open_data(config) as store:
        with store.view("p1") as view:
            me = view.user("p1")
        assert me is not None
        records = [line.record for line in store.log.read()]
    pages = [r for r in records if isinstance(r, PageRecord) and r.user == me.user]
    events = [r for r in records if isinstance(r, FeedbackRecord) and r.user == me.user]
    assert len(pages) == 2
    assert lines[0]["user_id"] == "p1"
    assert lines[0]["cards_seen"] == me.state.n_cards == 3 + 2 * 4
    assert [line["kind"] for line in lines[1:]].count("profile") == 1
    assert sum(line["kind"] == "imported" for line in lines) == 3
    told = [line for line in lines if line["kind"] == "page"]
    assert [line["page_id"] for line in told] == [page.page_id for page in pages]
    for line, page in zip(told, pages, strict=True):
        cards = [(card["slot"], card["item_id"], card["probability"]) for card in line["cards"]]
        drawn = zip(page.drawn, page.cards, strict=True)
        assert cards == [(d.slot, card.item_id, d.propensity) for d, card in drawn]
    heard = [line for line in lines if line.get("page_id") and line["kind"] != "page"]
    assert [line["kind"] for line in heard] == [event.kind for event in events]
    shown = {card["item_id"] for line in told for card in line["cards"]}
    assert {line["item_id"] for line in heard} == shown


def test_a_user_who_is_forgotten_has_no_data_and_is_named_nowhere_in_the_log(
    config: Config, tmp_path: Path
) -> None:
    forget_user(config, UserId("p1"), LATER_MS)
    with pytest.raises(JobError, match="registered user, got 'p1'"):
        export_user(config, UserId("p1"), tmp_path / "p1.jsonl")
    assert not (tmp_path / "p1.jsonl").exists()
    with pytest.raises(JobError, match="registered user, got 'p1'"):
        forget_user(config, UserId("p1"), LATER_MS)
    with open_data(config) as store:
        text = b"".join(msgspec.json.encode(line) for line in store.log.read()).decode()
    assert '"p0"' in text
    assert '"p1"' not in text


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    make_history(config, n_users=2, rounds=range(1), publish=False)
    folder, file = config.data.folder, tmp_path / "mine.jsonl"
    done = CliRunner().invoke(app, ["users", "export", "p0", str(file), "--data", folder])
    assert done.exit_code == 0, done.output
    assert f"{len(file.read_text().splitlines())} lines in" in done.output
    gone = CliRunner().invoke(app, ["users", "forget", "p0", "--data", folder])
    assert (gone.exit_code, gone.output) == (0, "forgot p0\n")
