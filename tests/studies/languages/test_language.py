import json

import pytest
from typer.testing import CliRunner

from env.world import generated
from policies.candidates.markets import PRESETS
from serve.config import Config
from tests.studies.commands import app
from tests.studies.languages.language import LanguageSize, run_language
from tests.studies.languages.markets import IMPORTED_SHARES, imported
from tests.studies.languages.rewards import compare_rewards, mean_and_low, with_foreign_share
from tests.studies.served_world.world import WorldSize

SIZE = LanguageSize(users=4, warm_pages=60, items=2_000, cards=1_000, seeds=0)


def test_newcomers_get_their_own_language_and_others_what_they_play() -> None:
    told: dict[str, tuple[int, int]] = {}

    def advance(step: str, done: int, total: int) -> None:
        told[step] = done, total

    result = run_language(SIZE, seed=1, advance=advance)
    assert set(result.own_language) == {"generated", "imported"}
    assert all(set(markets) == set(PRESETS) for markets in result.own_language.values())
    assert result.own_language_min >= 0.9
    assert result.own_language_before < 0.7
    assert result.foreign_never <= 0.15
    assert result.foreign_never + 0.3 < result.foreign_followed
    assert result.foreign_never < result.foreign_any < result.foreign_followed
    assert result.gave_way < 0.05
    assert set(told.values()) == {(2, 2)}


def test_the_reward_is_compared_in_the_same_worlds() -> None:
    size, told = WorldSize(users=250, items=512), list[int]()
    found = compare_rewards(size, 2_000, range(1, 3), Config(), told.append)
    assert told == [1, 2, 3, 4]
    assert len(found.ratios) == 2
    assert found.own_before < found.own_after
    alike = compare_rewards(
        size, 2_000, range(1, 2), with_foreign_share(Config(), 1.0), told.append
    )
    assert alike.ratios == [1.0]
    assert alike.own_before == alike.own_after


def test_the_interval_is_over_seeds() -> None:
    mean, low = mean_and_low([0.99, 1.0, 1.01])
    assert mean == pytest.approx(1.0)
    assert low == pytest.approx(1.0 - 4.3027 * 0.01 / 3**0.5, abs=1e-3)


def test_an_imported_catalogue_has_the_same_languages_whatever_its_items_are() -> None:
    items = imported(generated.catalogue(1, 4_000, 0), seed=1)
    for language, share in IMPORTED_SHARES.items():
        found = sum(item.language == language for item in items) / len(items)
        assert abs(found - share) < 4.0 * (share * (1.0 - share) / len(items)) ** 0.5
    assert not any(item.country or item.markets for item in items)


def test_the_command_prints_its_figures() -> None:
    words = ["--users", "2", "--warm-pages", "5", "--items", "500", "--seeds", "0", "--json"]
    done = CliRunner().invoke(app, ["language", *words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["own_language_min"] > 0.5
