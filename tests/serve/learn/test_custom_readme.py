"""README's own policy, taken out of it: checked, served, verified, evaluated."""

import re
from pathlib import Path

import msgspec
import pytest
from crowds import Crowd, gathered, read_lines
from histories import config_of
from typer.testing import CliRunner

from env.records import PageRecord
from policies.custom.contract import check_named
from serve.commands.main import app
from serve.config import Config, Custom, Experiment, load
from serve.jobs.evaluate import open_evaluation, read_dataset
from serve.jobs.verify import verify_log
from serve.store.data_folder import open_data
from serve.tokens import N_BYTES

README = (Path(__file__).parents[3] / "README.md").read_text()
NAME = "mine:good_match"
N_CARDS = 2_000
runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def _block(language: str) -> str:
    """Return README's one block in a language that is about its policy."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if "good_match" in block]
    return str(found)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with README's policy and settings."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(_block("python"))
    (folder / "mine.toml").write_text(_block("toml"))
    return folder


@pytest.fixture(scope="module")
def config(home: Path) -> Config:
    """Return settings under which a crowd has swiped enough cards of the policy's arm."""
    data = home / "data"
    data.mkdir()
    (data / "secret.key").write_bytes(bytes(range(N_BYTES)))
    experiment, custom = _settings(home)
    with gathered(data, n_users=80, experiment=experiment, custom=custom) as crowd:
        while _cards(crowd) < N_CARDS:
            crowd.swipe(500)
        crowd.leave()
    return msgspec.structs.replace(config_of(data, experiment), custom=custom)


def _settings(home: Path) -> tuple[Experiment, Custom]:
    """Return README's arms, with the patience that a busy machine needs."""
    settings = load(home / "mine.toml")
    return settings.experiment, msgspec.structs.replace(settings.custom, limit_ms=60_000.0)


def _pages(config: Config) -> list[PageRecord]:
    records = (line.record for line in read_lines(config))
    return [r for r in records if isinstance(r, PageRecord) and r.arm == "mine"]


def _cards(crowd: Crowd) -> int:
    return sum(len(page.drawn) for page in _pages(crowd.config))


def test_it_is_short() -> None:
    assert len(_block("python").splitlines()) <= 20


def test_its_check_passes(home: Path) -> None:
    for verdict in check_named(NAME, home):
        assert not verdict.reason, verdict
    checked = runner.invoke(app, ["policy", "check", NAME, "--config", str(home / "mine.toml")])
    assert checked.exit_code == 0, checked.output
    assert "broken" not in checked.output


def test_its_pages_are_drawn_by_it_and_again(config: Config) -> None:
    pages = _pages(config)
    assert sum(len(page.drawn) for page in pages) >= N_CARDS
    assert {page.policy for page in pages} == {f"{NAME}@0"}
    verified = verify_log(config)
    assert verified.is_clean
    assert (verified.mismatches, verified.other_code) == (0, {})
    assert verified.n_pages > len(pages)


def test_its_value_from_the_log_holds_its_arms_own_mean(config: Config) -> None:
    # Nine users of ten are in its arm, so both share most of their chance: a miss by the width of
    # the interval is some five standard errors of the difference.
    with open_data(config) as store:
        rewards = read_dataset(config, store, "mine").reward
    with open_evaluation(config, [NAME]) as question:
        (report,) = question.answer().reports
    estimate = report.estimates[0]
    assert (report.policy, report.refusals) == (f"{NAME}@0", ())
    assert estimate.low < rewards.mean() < estimate.high
