"""What an upload is promised, how it is tried, and what counts as evidence for it.

These are arguments of the fold in `env.fair_start.audience`, and sections of the configuration.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

N_LEVELS = 4

OPEN_LEVEL = N_LEVELS - 1
"""Level of the open pool: shown wherever its markets allow, without a cap."""

NEIGHBOURS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "GB": ("US",),
        "US": ("GB",),
        "ID": ("MY", "SG"),
        "MY": ("ID", "SG"),
        "TH": ("VN", "MY"),
        "VN": ("TH",),
        "SG": ("MY", "ID", "GB"),
        "PH": ("SG", "US"),
    }
)
"""Where a proven video goes next, by language and trade: our choice, no source."""


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")


class FairStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The audience that every upload is owed, whoever made it.

    Attributes:
        impressions: G, owed to an upload; 0: none are.
        by_market: the same by the home country, where it differs.
        within_h: hours after the upload in which they are owed.
        budget: the most of a market's cards that may be reserved for it, in [0, 1].
    """

    impressions: int = 100
    by_market: dict[str, int] = {}
    within_h: float = 24.0
    budget: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be owed.

        Raises:
            ValueError: a number is out of range.
        """
        for market, owed in {"": self.impressions, **self.by_market}.items():
            _require(0 <= owed <= 1_000_000, f"impressions {market}", "in [0, 1000000]", owed)
        _require(0.0 < self.within_h <= 24.0 * 365.0, "within_h", "in (0, 8760]", self.within_h)
        _require(0.0 <= self.budget <= 1.0, "budget", "in [0, 1]", self.budget)

    def owed_in(self, country: str) -> int:
        """Return G of an upload from this country."""
        return self.by_market.get(country, self.impressions)


class Pools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an upload that proves itself comes to be shown to more users.

    What the policy passes over is tested all the same: `tests` are owed, so a verdict can wait for
    them, and `hopeless` spends them where they may decide something. A bar with a chance of .5
    would let through half of those that stand at it; one that asks for more needs more evidence.

    Attributes:
        caps: impressions that an upload may have in pools 0, 1 and 2, each more than the last.
        at_least: counted impressions before the first verdict.
        promote: posterior probability of being good enough that promotes out of pools 0, 1 and 2,
            each in [0.5, 1); at 0.5 goes on what is more likely above the bar than not.
        tests: impressions that an upload is owed when it comes to pools 1 and 2, by the slots that
            the first audience leaves; 0: none are.
        early: what `promote` is at least before they are paid, in [0.5, 1).
        hopeless: the same below which the rest of them is not owed any more, in [0, 0.5).
        demote: probability of having been good enough for the pool that it is in, below which an
            upload is sent back; in pool 0, of being good enough to leave it, below which it is
            stopped; in (0, 0.5).
        bars: how good is good enough to leave pools 0, 1 and 2: standard deviations of uplift
            among uploads above their mean.
        neighbours: countries to which pool 2 opens, by home country.
    """

    caps: tuple[int, int, int] = (300, 3_000, 30_000)
    at_least: int = 100
    promote: tuple[float, float, float] = (0.8, 0.57, 0.57)
    demote: float = 0.05
    bars: tuple[float, float, float] = (0.0, 1.2, 1.2)
    tests: tuple[int, int] = (400, 400)
    early: float = 0.85
    hopeless: float = 0.1
    neighbours: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(NEIGHBOURS))

    def __post_init__(self) -> None:
        """Refuse pools that nothing can pass.

        Raises:
            ValueError: a number is out of range.
        """
        rising = 0 < self.caps[0] < self.caps[1] < self.caps[2]
        _require(rising, "caps", "three rising numbers above 0", self.caps)
        _require(0 < self.at_least <= self.caps[0], "at_least", "in (0, caps[0]]", self.at_least)
        sure = all(0.5 <= chance < 1.0 for chance in self.promote)
        _require(sure, "promote", "three numbers in [0.5, 1)", self.promote)
        tests = all(0 <= more <= 1_000_000 for more in self.tests)
        _require(tests, "tests", "two numbers in [0, 1000000]", self.tests)
        _require(0.5 <= self.early < 1.0, "early", "in [0.5, 1)", self.early)
        _require(0.0 <= self.hopeless < 0.5, "hopeless", "in [0, 0.5)", self.hopeless)
        _require(0.0 < self.demote < 0.5, "demote", "in (0, 0.5)", self.demote)
        _require(all(map(math.isfinite, self.bars)), "bars", "three finite numbers", self.bars)


class Guards(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one source may contribute to the evidence for an upload under trial, and to all else.

    What a source sends may exceed its part of the traffic before the upload's birth by `slack`
    times, and is never cut below `at_least` impressions; while it sends more, its impressions are
    no evidence and pay nothing. Young accounts may be `slack` times their usual part of what is
    learned from outside of trials.

    Attributes:
        enabled: False counts everything, for comparison.
        young_days: accounts younger than this are one cohort.
        slack: at least 1.
        at_least: impressions of one source that always count, at least 1.
        trim: part of the rewards that is cut at each end before a mean is taken, in [0, 0.4].
    """

    enabled: bool = True
    young_days: int = 7
    slack: float = 1.5
    at_least: int = 2
    trim: float = 0.1

    def __post_init__(self) -> None:
        """Refuse guards that guard nothing.

        Raises:
            ValueError: a number is out of range.
        """
        _require(self.young_days >= 0, "young_days", "at least 0", self.young_days)
        _require(1.0 <= self.slack < math.inf, "slack", "at least 1 and finite", self.slack)
        _require(self.at_least >= 1, "at_least", "at least 1", self.at_least)
        _require(0.0 <= self.trim <= 0.4, "trim", "in [0, 0.4]", self.trim)


class AudienceArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All arguments of the fold of audiences."""

    fair_start: FairStart = FairStart()
    pools: Pools = Pools()
    guards: Guards = Guards()
