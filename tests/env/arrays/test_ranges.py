from typing import Any

import msgspec
import pytest

from env.world.answers import Rates
from env.world.moods import StateDynamics
from env.world.presets import Cohort, Population, Preset


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Rates, {"zero": 1.2}, r"a probability in \[0, 1\] for Rates.zero, got 1.2"),
        (Rates, {"follow": -0.1}, r"a probability in \[0, 1\] for Rates.follow, got -0.1"),
        (Rates, {"loop": float("nan")}, r"a probability in \[0, 1\] for Rates.loop, got nan"),
        (Rates, {"watch_sd": 0.0}, "a number above 0 for Rates.watch_sd, got 0.0"),
        (StateDynamics, {"churn": 2.0}, r"a probability in \[0, 1\] for Moods.churn, got 2.0"),
        (
            StateDynamics,
            {"return_classes": (0.5, 1.0)},
            r"a probability in \(0, 1\) for Moods.return_classes, got \(0.5, 1.0\)",
        ),
        (StateDynamics, {"satisfaction_noise": -1.0}, "0 or more for Moods.satisfaction_noise"),
        (Cohort, {"share": 1.5, "daily_share": 0.5}, "for Cohort.share, got 1.5"),
        (Population, {"cohorts": {}, "newcomers": 7.0}, "for Population.newcomers, got 7.0"),
        (Population, {"cohorts": {}, "drift_back": 0.0}, "for Population.drift_back, got 0.0"),
        (
            Preset,
            {"name": "", "source": "", "population": Population({}), "day_discount": 1.1},
            "for Preset.day_discount, got 1.1",
        ),
    ],
)
def test_a_constant_that_is_no_probability_is_refused(
    kind: type[msgspec.Struct], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**fields)


def test_a_preset_file_with_such_a_constant_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Rates.zero, got 1.2"):
        msgspec.json.decode(b'{"zero": 1.2}', type=Rates)
