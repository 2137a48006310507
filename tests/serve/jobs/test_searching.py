"""From the search to the feed: a ranker is searched for, judged, written and published."""

import json
from pathlib import Path

import pytest
from histories import config_of, make_history
from msgspec.structs import replace
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.world.presets import load
from policies.ranker.ranker import Ranker
from policies.ranker.tensors import manifest_path
from policies.training.search.settings import SearchTrainingArgs
from serve.commands.main import app
from serve.errors import JobError
from serve.jobs.train_search import SearchOutcome, search_retention
from serve.learn.rankers import publish_ranker

RUN = CliRunner()


def slow_world(folder: Path) -> str:
    """Return the file of a world in which satisfaction decides who comes back."""
    rapid = load("rapid")
    moods = replace(rapid.moods, return_satisfaction=8.0, satisfaction_step=0.2)
    path = folder / "slow.json"
    path.write_bytes(replace(rapid, moods=moods).to_json())
    return str(path)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> SearchOutcome:
    """Return what came of a training for a feed."""
    folder = tmp_path_factory.mktemp("searched")
    args = SearchTrainingArgs(
        slow_world(folder),
        columns="feed",
        n_users=128,
        n_turns=120,
        n_judged=128,
        judged_days=14,
        days=14,
        n_generations=4,
    )
    return search_retention(args, folder / "training")


def test_a_ranker_that_reads_the_feed_brings_users_back_whom_it_never_met(
    outcome: SearchOutcome,
) -> None:
    worth = outcome.worth
    assert worth.gain_over_chance.low > 0.0
    assert worth.gain_over_myopic.value > 0.0
    days = {lived.policy: lived.active_days for lived in worth.lives}
    assert worth.gain_over_myopic.value == pytest.approx(days["ranker"] / days["myopic"] - 1.0)
    assert (worth.users, worth.days) == (128, 14)


def test_what_was_searched_for_is_published_and_says_where_it_is_from(
    outcome: SearchOutcome, tmp_path: Path
) -> None:
    path = Path(outcome.ranker)
    made = json.loads(manifest_path(path).read_bytes())["made"]
    assert made["training"]["type"] == "search"
    assert made["training"]["columns"] == "feed"
    assert len(made["weights"]) == 18
    assert made["worth"]["gain_over_chance"]["value"] == outcome.worth.gain_over_chance.value
    ranker, config = Ranker.from_file(path), config_of(tmp_path / "data")
    make_history(config, rounds=range(1))
    assert publish_ranker(config, ranker.to_bytes(), origin="a search").is_current


def test_a_search_is_not_begun_twice(outcome: SearchOutcome) -> None:
    with pytest.raises(JobError, match="holds a training: expected --resume, or another folder"):
        search_retention(SearchTrainingArgs(), Path(outcome.ranker).parent)


def test_the_command_tells_what_the_ranker_is_worth(tmp_path: Path) -> None:
    command = ["train", "retention", "search", str(tmp_path / "training")]
    small = ["--users", "8", "--judged", "4", "--generations", "1", "--horizon", "2"]
    done = RUN.invoke(app, [*command, "--preset", "rapid", "--candidates", "4", *small])
    assert done.exit_code == 0, done.output
    assert "search 1/1" in done.stderr
    assert "4 users it was not trained with, 60 days:" in done.stdout
    assert "active days over myopic: " in done.stdout
    Ranker.from_file(tmp_path / "training" / "ranker.safetensors")
