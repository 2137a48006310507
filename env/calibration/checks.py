"""Checks of a world: each row holds a value, the band it must lie in, and the verdict.

Groups V1 to V6 cover the statistics of the simulated log, the value of planning ahead, the exact
twin, determinism, sensitivity and a click model. The groups "fit" and "holdout" compare a fitted
world with its own log and with a later part of it.

The six groups and their bands: `docs/decisions/world-calibration.md`.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from env.calibration.impressions import LEAST_CARDS
from env.calibration.return_gaps import divergence
from env.world.moments import RARE, SIGNALS, LogStatistics, watch_distance

RATE_BAND = 0.05

RARE_BAND = 0.25

EXACT = 1e-9

LIFT_BAND = 0.20

TAIL_BAND = 0.25

LEAST_WATCH_DISTANCE = 0.10

LEAST_GAP_DIVERGENCE = 0.005

CLICK_AUC = (0.68, 0.80)

STANDARD_ERRORS = 3.0


class Check(msgspec.Struct, frozen=True):
    """One row of a world's checks."""

    group: str  # V1 to V6, "fit" or "holdout"
    name: str
    value: float
    low: float  # lower end of the band
    high: float  # upper end of the band
    verdict: str  # "pass", "fail", or "unjudged" where the value is for information only

    @property
    def passed(self) -> bool:
        """Whether the verdict is not "fail"."""
        return self.verdict != "fail"


def check(group: str, name: str, value: float, low: float, high: float) -> Check:
    """Return the row of a value and its band; NaN fails.

    >>> check("V1", "like", 0.018, 0.017, 0.019).passed
    True
    """
    verdict = "pass" if low <= value <= high else "fail"
    return Check(group, name, value, low, high, verdict)


def check_moments(found: LogStatistics, target: LogStatistics) -> list[Check]:
    """Return the rows of V1 about the log; the session tail only where sessions are long enough."""
    rows = [_near("V1", name, found.rates[name], target.rates[name], RATE_BAND) for name in SIGNALS]
    rows.append(
        _near("V1", "follow given like, lift", follow_lift(found), follow_lift(target), LIFT_BAND)
    )
    rows += [
        _near("V1", "watch mean, s", found.watch_mean_s, target.watch_mean_s, RATE_BAND),
        check("V1", "ln watch, W1", watch_distance(found, target), 0.0, LEAST_WATCH_DISTANCE),
        check("V1", "gaps, divergence", gap_divergence(found, target), 0.0, LEAST_GAP_DIVERGENCE),
        _near("V1", "session, cards", found.session_cards, target.session_cards, RATE_BAND),
    ]
    if target.session_cards >= LEAST_CARDS:
        rows.append(
            _near("V1", "session, tail slope", found.session_tail, target.session_tail, TAIL_BAND)
        )
    return rows


def check_fit(found: LogStatistics, target: LogStatistics) -> list[Check]:
    """Return the rows of V1, with bands of rare events and of the follow lift three errors wider.

    A round of calibration is shorter than a check, and 5% of a rate is less than the error of the
    few hundred events counted.
    """
    likes = max(found.n * target.rates["like"], 1.0)
    chance = target.joint.get("follow|like", 0.0)
    slack = {name: _errors(target.rates[name], found.n) for name in RARE}
    slack["follow given like, lift"] = _errors(chance, likes) / max(target.rates["follow"], 1e-12)
    return [_widened(row, slack.get(row.name, 0.0)) for row in check_moments(found, target)]


def check_cohorts(
    counts: Sequence[int], shares: Mapping[str, float], target: Mapping[str, float]
) -> list[Check]:
    """Return the rows of V1 about cohorts; `counts` and `shares` have the same order.

    An empty target means that the expected shares are unknown.
    """
    share = np.array(list(shares.values()))
    n = max(sum(counts), 1)
    se = np.sqrt(np.maximum(share * (1.0 - share), 1e-12) / n)
    off = float(np.max(np.abs(np.array(counts) / n - share) / se))
    rows = [check("V1", "cohorts drawn, most standard errors off", off, 0.0, 4.0)]
    if target:
        names = {*shares, *target}
        far = max(abs(shares.get(name, 0.0) - target.get(name, 0.0)) for name in names)
        rows.append(check("V1", "cohort shares, most off", far, 0.0, EXACT))
    return rows


def follow_lift(moments: LogStatistics) -> float:
    """Return the ratio of the follow rate given a like to the follow rate."""
    return moments.joint.get("follow|like", 0.0) / max(moments.rates["follow"], 1e-12)


def gap_divergence(found: LogStatistics, target: LogStatistics) -> float:
    """Return the divergence of the target's gaps from the simulated ones, over the same days.

    Half a gap is added to each simulated day, so that a day absent from a small sample counts as
    rare and not as impossible.
    """
    counted = np.array(target.gaps)
    return divergence(counted, np.array(found.gaps)[: len(counted)] + 0.5)


def check_holdout(found: LogStatistics, later: LogStatistics) -> list[Check]:
    """Return the rows of a prediction: statistics of a fitted world against those of a later log.

    The band of a rare event is a quarter of its rate plus three errors of the later log.
    """
    rows = [
        _near("holdout", name, found.rates[name], later.rates[name], RATE_BAND)
        for name in SIGNALS[:2]
    ]
    rows.append(
        _near("holdout", "watch mean, s", found.watch_mean_s, later.watch_mean_s, RATE_BAND)
    )
    for name in RARE:
        rate = later.rates[name]
        slack = RARE_BAND * rate + _errors(rate, later.n)
        rows.append(check("holdout", name, found.rates[name], rate - slack, rate + slack))
    return rows


def _errors(rate: float, n: float) -> float:
    """Return three binomial standard errors, with at least one event assumed."""
    return STANDARD_ERRORS * float(np.sqrt(max(rate * (1.0 - rate), 1.0 / n) / n))


def _widened(row: Check, slack: float) -> Check:
    return check("fit", row.name, row.value, row.low - slack, row.high + slack)


def _near(group: str, name: str, value: float, target: float, band: float) -> Check:
    low, high = sorted((target * (1.0 - band), target * (1.0 + band)))
    return check(group, name, value, low, high)
