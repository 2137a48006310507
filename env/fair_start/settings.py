"""Settings of the fair start of uploads: delivery guarantee, rollout stages and traffic guards.

They are arguments of the fold `env.fair_start.audience.Audiences` and sections of the
configuration. Why these values: `docs/decisions/rollout-tests.md` and
`docs/decisions/delivery-guarantee.md`.
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
"""Countries that a proven video reaches next, by language and trade: our choice, no source."""


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got!r}")


class FairStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The delivery guarantee: impressions promised to every upload, regardless of its creator.

    Attributes:
        impressions: guaranteed to each upload (G); 0 disables the guarantee.
        by_market: the same by home country, where it differs.
        within_h: hours after launch within which they are to be delivered.
        budget: largest share of a market's cards that may be reserved for the guarantee, in [0, 1].
    """

    impressions: int = 100
    by_market: dict[str, int] = {}
    within_h: float = 24.0
    budget: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        for market, owed in {"": self.impressions, **self.by_market}.items():
            _require(0 <= owed <= 1_000_000, f"impressions {market}", "in [0, 1000000]", owed)
        _require(0.0 < self.within_h <= 24.0 * 365.0, "within_h", "in (0, 8760]", self.within_h)
        _require(0.0 <= self.budget <= 1.0, "budget", "in [0, 1]", self.budget)

    def owed_in(self, country: str) -> int:
        """Return the impressions guaranteed to an upload from this country."""
        return self.by_market.get(country, self.impressions)


class Pools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rollout stages (pools) that an upload passes, and the test that decides each move.

    A promotion threshold above .5 asks for evidence, where .5 would promote half of the uploads
    that stand exactly at the bar. `tests` reserves impressions for uploads that the policy passes
    over, so that they are tested all the same.

    Attributes:
        caps: impressions that an upload may have in pools 0, 1 and 2, rising.
        at_least: counted impressions before the first test decision.
        promote: posterior probability of exceeding the bar that promotes out of pools 0, 1 and 2,
            each in [0.5, 1).
        tests: test impressions reserved for an upload on entering pools 1 and 2, served after all
            delivery guarantees; 0 for none.
        early: least value of `promote` until those are delivered, in [0.5, 1).
        hopeless: probability below which the remaining test impressions are dropped, in [0, 0.5).
        demote: probability below which an upload moves back a pool, or is stopped in pool 0, in (0,
            0.5). It refers to the bar of the pool below; in pool 0 to its own.
        bars: uplift needed to leave pools 0, 1 and 2, in standard deviations between uploads above
            their mean.
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
        """Raise ValueError if a number is out of range."""
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
    """Traffic guards: bounds on the evidence that one traffic source may contribute.

    A source may send `slack` times its share of the traffic before the upload's launch; what it
    sends beyond that is no evidence and does not count as delivered. Outside of trials, new
    accounts may contribute `slack` times their usual part of the training data.

    Attributes:
        enabled: False counts every impression, for comparison.
        young_days: accounts younger than this are the new accounts, one source.
        slack: at least 1.
        at_least: impressions of one source that always count, at least 1.
        trim: fraction of rewards trimmed at each end before a mean is taken, in [0, 0.4].
    """

    enabled: bool = True
    young_days: int = 7
    slack: float = 1.5
    at_least: int = 2
    trim: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        _require(self.young_days >= 0, "young_days", "at least 0", self.young_days)
        _require(1.0 <= self.slack < math.inf, "slack", "at least 1 and finite", self.slack)
        _require(self.at_least >= 1, "at_least", "at least 1", self.at_least)
        _require(0.0 <= self.trim <= 0.4, "trim", "in [0, 0.4]", self.trim)


class AudienceArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of the fair start."""

    fair_start: FairStart = FairStart()
    pools: Pools = Pools()
    guards: Guards = Guards()
