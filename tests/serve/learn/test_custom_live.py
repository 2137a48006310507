"""A policy of one's own in processes of a server that runs, which have another current folder."""

import json
import urllib.request
from pathlib import Path

import msgspec
import pytest
from custom_policies import HEAD, write
from live import live

from env.records import PageRecord
from serve.config import Config, load
from serve.jobs.verify import verify_log
from serve.store.open import open_store

ARMS = """
[experiment]
arms = [{ name = "mine", policy = "mine:popular" }]
[custom]
limit_ms = 60000.0
"""
SCORES = """

@scores_features
def popular(features):
    import mine_weights

    return mine_weights.WEIGHT * column(features, "popularity")
"""


@pytest.mark.parametrize("options", [("--no-ray",), ()], ids=["bare", "Ray"])
def test_every_process_finds_it_beside_the_settings(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, HEAD + SCORES)
    write(tmp_path, "WEIGHT = 2.0\n", "mine_weights")
    with live(tmp_path, "--no-swarm", *options, settings=ARMS) as server:
        for k in range(5):
            body = json.dumps({"user_id": f"p{k}", "size": 3}).encode()
            request = urllib.request.Request(f"{server.address}/v1/feed", body)
            with urllib.request.urlopen(request, timeout=30) as answer:
                page = json.loads(answer.read())
            assert {card["policy"] for card in page["items"]} == {"mine:popular@0"}
    config = _settings(tmp_path)
    with open_store(config, lambda: 0) as store:
        pages = [line.record for line in store.log.read(kinds=["page"])]
    assert [page.policy for page in pages if isinstance(page, PageRecord)] == ["mine:popular@0"] * 5
    assert verify_log(config).is_clean


def _settings(folder: Path) -> Config:
    config = load(folder / "settings.toml")
    assert config.custom.folder == str(folder)
    return msgspec.structs.replace(config)
