import hashlib
from pathlib import Path

import msgspec
import pytest

from env.calibration.recipes import KUAIRAND_GAPS, KUAIRAND_RATES, kuaisim, rapid
from env.world.log_statistics import SIGNALS
from env.world.presets import NAMED, Preset, load

FROZEN = "f96cd7fac9822b42099d7e492f3a23f2dc08f1b8176bf689da9096e30a2a5e1a"
KUAIRAND_COHORTS = {
    "full_active": 0.658,
    "high_active": 0.226,
    "middle_active": 0.078,
    "2_14_day_new": 0.023,
    "low_active": 0.011,
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_preset_is_there_and_comes_back_from_its_json(name: str) -> None:
    preset = load(name)
    assert preset.name == name
    assert preset.source
    assert msgspec.json.decode(preset.to_json(), type=Preset) == preset
    shares = [cohort.share for cohort in preset.population.cohorts.values()]
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)


def test_the_constants_of_kuairand_are_frozen() -> None:
    """Policies are compared inside one world: another hash is another world, for all results."""
    preset = msgspec.structs.replace(load("kuairand"), source="")
    data = msgspec.json.encode(preset, order="deterministic")
    assert hashlib.sha256(data).hexdigest() == FROZEN


def test_kuairand_carries_the_published_moments() -> None:
    preset = load("kuairand")
    assert preset.moments is not None
    assert preset.moments.rates == KUAIRAND_RATES
    assert preset.moments.gaps == KUAIRAND_GAPS
    assert preset.moments.assumed == ("session_cards", "session_tail")
    for name, share in KUAIRAND_COHORTS.items():
        assert preset.population.cohorts[name].share == pytest.approx(share, abs=5e-4)
    assert "CC BY-SA" in preset.source


def test_the_daily_app_is_opened_every_one_point_three_days() -> None:
    target = load("daily").moments
    assert target is not None
    mean = sum((d + 1) * n for d, n in enumerate(target.gaps)) / sum(target.gaps)
    assert mean == pytest.approx(1.3, abs=0.01)
    assert set(target.rates) == set(SIGNALS)


def test_presets_without_moments_are_what_their_recipe_says() -> None:
    assert load("rapid") == rapid()
    assert load("kuaisim") == kuaisim()
    assert load("kuaisim").laws == "kuaisim"


def test_a_preset_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    mine = msgspec.structs.replace(rapid(), name="mine")
    file.write_bytes(mine.to_json())
    assert load(str(file)) == mine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "x"}', "not a preset: Object missing required field"),
        ('{"name": 3}', "not a preset"),
        ('{"nothing": 1}', "not a preset"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(str(file))


def test_a_name_that_is_neither_known_nor_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="kuairand, daily, kuaisim, rapid or the path"):
        load("kuairnd")
