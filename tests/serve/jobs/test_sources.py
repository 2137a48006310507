"""What each source earned: every drawn card counts once, for its reason, with its own reward."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from histories import make_history
from typer.testing import CliRunner

from env.records import PageRecord
from env.vocabulary import split_decision_id
from policies.candidates.retrieval import SOURCES
from replay.join.whole import join_all
from serve.commands.main import app
from serve.config import Config, DataSettings
from serve.errors import JobError
from serve.jobs.sources import SourceCounts, count_sources
from serve.store.data_folder import open_data

runner = CliRunner()


@pytest.fixture(params=["one source", "all sources"])
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    config = msgspec.structs.replace(Config(), data=DataSettings(str(tmp_path / "data")))
    if request.param == "one source":
        shares = {source.name: float(source.name == "random") for source in SOURCES}
        feed = msgspec.structs.replace(config.feed, sources=shares)
        config = msgspec.structs.replace(config, feed=feed)
    make_history(config, rounds=range(3), publish=False)
    return config


def test_cards_and_rewards_are_those_of_the_log(config: Config) -> None:
    with open_data(config) as store:
        lines = list(store.log.read())
    pages = {r.page_id: r for line in lines if isinstance(r := line.record, PageRecord)}
    cards, alone = Counter[str](), Counter[str]()
    for page in pages.values():
        assert len(page.proposers) == len(page.drawn)
        cards.update(page.reasons)
        told = zip(page.reasons, page.proposers, strict=True)
        alone.update(reason for reason, n in told if n == 1)
    rewards: dict[str, list[float]] = {}
    for interaction in join_all(lines, config.reward):
        page_id, slot = split_decision_id(interaction.decision_id)
        page = pages[page_id]
        place = [drawn.slot for drawn in page.drawn].index(slot)
        rewards.setdefault(page.reasons[place], []).append(interaction.reward)

    found = count_sources(config)
    assert found.pages == len(pages) > 10
    assert {one.source: one.cards for one in found.sources} == dict(cards)
    assert {one.source: one.alone for one in found.sources if one.alone} == dict(alone)
    if len(cards) == 1:
        assert alone == cards
    else:  # a small catalogue, which nearly all sources propose whole
        assert sum(alone.values()) < sum(cards.values())
    assert sum(one.answered for one in found.sources) > 0
    for one in found.sources:
        assert one.answered <= len(rewards.get(one.source, []))
    assert sum(one.earned_share for one in found.sources) == pytest.approx(1.0)
    assert all(one.unknown == 0 for one in found.sources)


def test_it_is_printed_as_a_table_and_as_json(config: Config) -> None:
    words = ["log", "sources", "--data", config.data.folder]
    told = runner.invoke(app, words)
    assert told.exit_code == 0, told.output
    assert all(word in told.output for word in ("source", "answered", "random", "48 pages"))
    as_json = runner.invoke(app, [*words, "--json"])
    found = msgspec.json.decode(as_json.output, type=SourceCounts)
    assert found == count_sources(config)


def test_another_arm_has_no_cards(config: Config) -> None:
    assert count_sources(config, arm="nothing").sources == ()


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError):
        count_sources(msgspec.structs.replace(Config(), data=DataSettings(str(tmp_path / "none"))))
