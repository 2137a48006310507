"""Presets: every constant of a simulated world in one value, named ones and files.

A preset says how people answer (`Rates`), change (`Moods`) and differ (`Priors`, `Population`),
what is uploaded (`Uploads`), and, where a log was behind it, the moments of that log that the
world has to reproduce. Named presets are JSON files beside this module; `nextswipe world fit`
writes more of them from a log. Training compares only inside one preset: published days of return
differ by a factor of two between papers because the constants of their simulators do.
"""

from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from env.answers import Rates
from env.kuaisim import KuaiSimLaws
from env.moments import Moments
from env.moods import Moods
from env.ranges import (
    require_not_negative,
    require_open_probabilities,
    require_positive,
    require_probabilities,
)
from env.responses import Priors

NAMED = ("kuairand", "daily", "kuaisim", "rapid")

Laws = Literal["swipe", "kuaisim"]


class Cohort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class of people.

    Attributes:
        share: of all people; the shares of a population sum to 1.
        daily_share: of the cohort, whose return class is the daily one.
        lean: added to the log-odds of engagement.
        sessions_hours: mean hours of the day of the two peaks of its visits, in [0, 24).
    """

    share: float
    daily_share: float
    lean: float = 0.0
    peak_hours: tuple[float, float] = (12.5, 20.5)

    def __post_init__(self) -> None:
        """Refuse shares that are none.

        Raises:
            ValueError: one is outside [0, 1].
        """
        require_probabilities(self, "share", "daily_share")


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who the people are.

    Attributes:
        cohorts: by name.
        newcomers: share of episodes whose person registers on their first day; the others have
            a tenure and rested interests.
        tenure_days: mean tenure of those.
        drift: standard deviation of the change of taste a day, as a share of its own; it is drawn
            back to the person's mean so that its variance stays.
        drift_back: share of the way back to the mean a day.
        peak_sd_h: standard deviation of the hour of a visit around its peak.
        devices: shares by name, summing to 1.
        device_leans: added to the log-odds of engagement of a device's people; 0 if not named.
        evening: log-odds of engagement more at nine in the evening, less at nine in the morning.
    """

    cohorts: dict[str, Cohort]
    newcomers: float = 0.1
    tenure_days: float = 400.0
    drift: float = 0.05
    drift_back: float = 0.02
    peak_sd_h: float = 2.5
    devices: dict[str, float] = msgspec.field(
        default_factory=lambda: {"phone": 0.9, "tablet": 0.06, "desktop": 0.04}
    )
    device_leans: dict[str, float] = msgspec.field(default_factory=dict)
    evening: float = 0.0

    def __post_init__(self) -> None:
        """Refuse probabilities that are none, and put cohorts and devices in order of their names.

        People are drawn by that order, so it must not hang on how the preset was written down.

        Raises:
            ValueError: one is out of range.
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
        """Return the cohorts' shares of all people."""
        return {name: cohort.share for name, cohort in self.cohorts.items()}

    def daily_share(self) -> float:
        """Return the share of all people whose return class is the daily one."""
        return sum(cohort.share * cohort.daily_share for cohort in self.cohorts.values())


class Uploads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What there is to see, and how it comes.

    Attributes:
        n_items: that are live at a time; an upload takes the place of the oldest.
        n_creators: who upload.
        n_dims: length of an item's vector, 5 to 128: its first signs are the topic.
        log_duration_mu: of ln seconds.
        log_duration_sd: of ln seconds.
        least_s: shortest duration.
        most_s: longest duration.
        a_day: uploads a day at the start, of all creators together.
        output_sd: of the logarithm of a creator's share of them.
        creator_effect: share of the variance of an item's effect that is its creator's.
        creator_focus: cosine between an item's vector and its creator's direction, on average.
        local_share: of items that are shown in their home market only.
        audience: exposures that an upload must get within its first days for its creator to be
            content.
        give_up: probability a day that a creator whose last uploads all stayed below it stops.
        exposures_per_swipe: how many people one simulated person stands for when exposures are
            counted against `audience`.
    """

    n_items: int = 4_096
    n_creators: int = 400
    n_dims: int = 16
    log_duration_mu: float = 4.38
    log_duration_sd: float = 1.0
    least_s: float = 5.0
    most_s: float = 600.0
    a_day: float = 100.0
    output_sd: float = 1.2
    creator_effect: float = 0.3
    creator_focus: float = 0.6
    local_share: float = 0.1
    audience: int = 100
    give_up: float = 0.05
    exposures_per_swipe: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what nothing can be drawn from.

        Raises:
            ValueError: a share is outside [0, 1] or a size too small.
        """
        require_probabilities(self, "creator_effect", "creator_focus", "local_share", "give_up")
        require_positive(self, "n_items", "n_creators", "least_s", "a_day")
        require_not_negative(self, "log_duration_sd", "output_sd", "audience")
        if not 5 <= self.n_dims <= 128:
            raise ValueError(f"expected 5 to 128 dimensions in Uploads.n_dims, got {self.n_dims}")


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of a world.

    Attributes:
        source: where its figures are from, and which are assumed.
        intercept: of the log-odds of engagement, at mean affinity and effect.
        duration: of ln duration around its centre, of its square, and of an unknown duration.
        horizon_days: length of an episode.
        day_discount: discount of a day in retention's reward.
        laws: whose equations answer, leave and return follow; see `env.kuaisim` for the other.
        kuaisim: constants of those, None under our own.
        moments: of the log behind the preset, None where there is none.
    """

    name: str
    source: str
    population: Population
    rates: Rates = Rates()
    moods: Moods = Moods()
    priors: Priors = Priors()
    uploads: Uploads = Uploads()
    intercept: float = 0.0
    duration: tuple[float, float, float] = (0.1, -0.05, -0.1)
    horizon_days: int = 60
    day_discount: float = 0.97
    laws: Laws = "swipe"
    kuaisim: KuaiSimLaws | None = None
    moments: Moments | None = None

    def __post_init__(self) -> None:
        """Refuse an episode without days.

        Raises:
            ValueError: the horizon is not above 0, or the discount no probability above 0.
        """
        require_positive(self, "horizon_days", "day_discount")
        require_probabilities(self, "day_discount")

    def to_json(self) -> bytes:
        """Return the preset as indented JSON: same preset, same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)


def load(name_or_path: str) -> Preset:
    """Return a named preset, or the one that a file holds.

    Args:
        name_or_path: one of `NAMED`, or the path of a JSON file.

    Raises:
        ValueError: neither a known name nor a file, or the file is no preset.
    """
    if name_or_path in NAMED:
        data = resources.files("env").joinpath("preset_files", f"{name_or_path}.json").read_bytes()
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
