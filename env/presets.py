"""Presets: all constants of a simulated world in one value, built in or from a file.

A preset holds the answer model (`Rates`), the hidden state (`Moods`), the spread between users
(`Priors`, `Population`), the supply (`Uploads`) and, if fitted, the target statistics of its log.
Built-in presets are packaged JSON files; `nextswipe world fit` writes others. Results compare only
within a preset: published days of return differ twofold between simulators' constants.
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
    """A class of users.

    Attributes:
        share: of all users; the shares of a population sum to 1.
        daily_share: of the cohort, whose return class is the daily one.
        lean: added to the log-odds of engagement.
        peak_hours: mean hours of the two peaks of its visits, in [0, 24).
    """

    share: float
    daily_share: float
    lean: float = 0.0
    peak_hours: tuple[float, float] = (12.5, 20.5)

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] with a ValueError."""
        require_probabilities(self, "share", "daily_share")


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the users' differences and habits.

    Attributes:
        newcomers: share of episodes whose user registers on the first day.
        tenure_days: mean tenure of the others.
        drift: standard deviation of a day's change of taste, as a share of the taste's own.
        drift_back: share of the way back to the user's mean a day, which keeps the variance.
        peak_sd_h: standard deviation of the hour of a visit around its peak.
        devices: shares by name, summing to 1.
        device_leans: added to the log-odds of engagement by device; 0 if not named.
        evening: added to the log-odds of engagement at 21:00, subtracted at 9:00.
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
        """Refuse invalid constants, and sort cohorts and devices by name.

        Users are drawn in that order, which must not depend on how the preset was written.

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


class Uploads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of the items and their creators.

    Attributes:
        n_items: live at a time; an upload replaces the oldest.
        n_dims: length of an item's vector, 5 to 128; its first signs are the topic.
        log_duration_mu: mean of ln seconds.
        log_duration_sd: standard deviation of ln seconds.
        a_day: uploads a day at the start, of all creators together.
        output_sd: of the logarithm of a creator's share of them.
        creator_effect: share of the variance of an item's effect that is its creator's.
        creator_focus: cosine between an item's vector and its creator's direction, on average.
        local_share: of items that are shown in their home market only.
        audience: exposures in its first days that count an upload as a success.
        give_up: daily probability that a creator stops whose last uploads all missed it.
        exposures_per_swipe: multiplies the exposures counted against `audience`.
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
        """Refuse invalid constants.

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
        source: origin of its figures, and which are assumed.
        intercept: of the log-odds of engagement, at mean affinity and effect.
        duration: coefficients of ln duration around its centre, of its square, and of an unknown
            one.
        horizon_days: length of an episode.
        day_discount: discount of a day in retention's reward.
        laws: the equations of answers, exits and returns; see `env.kuaisim` for the other.
        kuaisim: constants of those, None under "swipe".
        moments: statistics of the preset's log, None if there is none.
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
        """Refuse a horizon that is not above 0, or a discount outside (0, 1].

        Raises:
            ValueError: see above.
        """
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
