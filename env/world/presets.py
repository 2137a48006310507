"""Presets: all constants of a simulated world in one value, built in or from a file.

A preset holds the answer model (`Rates`), the hidden state (`StateDynamics`), the spread between
users (`Priors`, `Population`), the supply (`UploadRates`) and, if fitted, the target statistics of
its log. Built-in presets are packaged JSON files; `nextswipe world fit` writes others. Results
compare only
within a preset: published days of return differ twofold between simulators' constants.
"""

from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from env.arrays.validate import (
    require_not_negative,
    require_open_probabilities,
    require_positive,
    require_probabilities,
)
from env.world.answers import Rates
from env.world.kuaisim import KuaiSimLaws
from env.world.log_statistics import LogStatistics
from env.world.moods import StateDynamics
from env.world.responses import Priors

NAMED = ("kuairand", "daily", "kuaisim", "rapid")
Laws = Literal["swipe", "kuaisim"]


class Cohort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class of users."""

    share: float  # of all users; the shares of a population sum to 1
    daily_share: float  # of the cohort, whose return class is the daily one
    lean: float = 0.0  # added to the log-odds of engagement
    peak_hours: tuple[float, float] = (12.5, 20.5)  # two peaks of visits, in [0, 24)

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] with a ValueError."""
        require_probabilities(self, "share", "daily_share")


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the users' differences and habits."""

    cohorts: dict[str, Cohort]
    newcomers: float = 0.1  # share of episodes whose user registers on the first day
    tenure_days: float = 400.0  # mean tenure of the others
    drift: float = 0.05  # sd of a day's change of taste, as a share of the taste's own sd
    drift_back: float = 0.02  # share of the way back to the user's mean a day
    peak_sd_h: float = 2.5  # sd of the hour of a visit around its peak
    devices: dict[str, float] = msgspec.field(
        default_factory=lambda: {"phone": 0.9, "tablet": 0.06, "desktop": 0.04}
    )
    device_leans: dict[str, float] = msgspec.field(default_factory=dict)  # log-odds
    evening: float = 0.0  # added to the log-odds of engagement at 21:00, subtracted at 9:00

    def __post_init__(self) -> None:
        """Refuse invalid constants, and sort the classes that users are drawn by.

        Raises:
            ValueError: a constant is out of range.
        """
        for name in ("cohorts", "devices", "device_leans"):
            in_order = dict(sorted(getattr(self, name).items()))
            msgspec.structs.force_setattr(self, name, in_order)
        if unknown := set(self.device_leans) - set(self.devices):
            raise ValueError(f"expected device_leans of {sorted(self.devices)}, got {unknown}")
        require_probabilities(self, "newcomers")
        require_open_probabilities(self, "drift_back")
        require_not_negative(self, "tenure_days", "drift", "peak_sd_h")

    def shares(self) -> dict[str, float]:
        """Return the cohorts' shares of all users."""
        return {name: cohort.share for name, cohort in self.cohorts.items()}

    def daily_share(self) -> float:
        """Return the share of all users whose return class is the daily one."""
        return sum(cohort.share * cohort.daily_share for cohort in self.cohorts.values())


class UploadRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the items and their creators."""

    n_items: int = 4_096  # live at a time; an upload replaces the oldest
    n_creators: int = 400
    n_dims: int = 16  # length of an item's vector, 5 to 128; its first signs are the topic
    log_duration_mu: float = 4.38  # mean of ln seconds
    log_duration_sd: float = 1.0  # sd of ln seconds
    least_s: float = 5.0
    most_s: float = 600.0
    a_day: float = 100.0  # uploads a day at the start, of all creators together
    output_sd: float = 1.2  # sd of the logarithm of a creator's share of them
    creator_effect: float = 0.3  # creator's share of the variance of an item's effect
    creator_focus: float = 0.6  # mean cosine of an item's vector with its creator's direction
    local_share: float = 0.1  # of items that are shown in their home market only
    audience: int = 100  # exposures in its first days that count an upload as a success
    give_up: float = 0.05  # daily probability that a creator stops after failures
    exposures_per_swipe: float = 1.0  # multiplies the exposures counted against `audience`

    def __post_init__(self) -> None:
        """Refuse invalid constants.

        Raises:
            ValueError: a share is outside [0, 1] or a size too small.
        """
        require_probabilities(self, "creator_effect", "creator_focus", "local_share", "give_up")
        require_positive(self, "n_items", "n_creators", "least_s", "a_day")
        require_not_negative(self, "log_duration_sd", "output_sd", "audience")
        if not 5 <= self.n_dims <= 128:
            raise ValueError(f"expected 5 to 128 for UploadRates.n_dims, got {self.n_dims}")


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of a world."""

    name: str
    source: str  # origin of its figures, and which are assumed
    population: Population
    rates: Rates = Rates()
    moods: StateDynamics = StateDynamics()
    priors: Priors = Priors()
    uploads: UploadRates = UploadRates()
    intercept: float = 0.0  # of the log-odds of engagement, at mean affinity and effect
    duration: tuple[float, float, float] = (0.1, -0.05, -0.1)
    horizon_days: int = 60  # length of an episode
    day_discount: float = 0.97  # discount of a day in retention's reward
    laws: Laws = "swipe"  # the equations of answers, exits and returns
    kuaisim: KuaiSimLaws | None = None  # constants, if laws is "kuaisim"
    moments: LogStatistics | None = None  # statistics of the preset's log, None if there is none

    def __post_init__(self) -> None:
        """Refuse a horizon that is not above 0, or a discount outside (0, 1]."""
        require_positive(self, "horizon_days", "day_discount")
        require_probabilities(self, "day_discount")

    def to_json(self) -> bytes:
        """Return the preset as indented JSON: same preset, same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)


def load(name_or_path: str) -> Preset:
    """Return one of the `NAMED` presets, or the preset in a JSON file.

    Raises:
        ValueError: there is no such name or file, or the file is not a preset.
    """
    if name_or_path in NAMED:
        data = (
            resources.files("env.world")
            .joinpath("preset_files", f"{name_or_path}.json")
            .read_bytes()
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(
                f"expected one of {', '.join(NAMED)} or the path of a preset's JSON file, "
                f"got {name_or_path!r}"
            )
        data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=Preset)
    except msgspec.DecodeError as error:
        raise ValueError(f"{name_or_path}: not a preset: {error}") from error
