"""Checks of a world: one row each, with what was found, the band it must lie in, and the verdict.

    V1  the moments of the simulated log are those that the preset should have
    V2  whoever looks one card, or one session, ahead loses by enough to be worth learning about
    V3  simulated returns of the exact twin are those of its dynamic programme
    V4  the same seed gives the same bits, one person alone or among many
    V5  the order of policies does not hang on any one constant
    V6  a click model learns from the simulated log as well as from a real one, and no better

Bands of V1 are relative to the target, those of shapes are distances. Two more groups hold a fit:
"fit" against the log that it was made from, "holdout" against a later part of it.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from env.gaps import divergence
from env.moments import RARE, SIGNALS, Moments, watch_distance
from env.sessions import LEAST_CARDS

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
    """One row.

    Attributes:
        group: V1 to V6, "fit" or "holdout".
        value: as it was found.
        low: of the band that it must lie in.
        high: of that band.
        verdict: "pass" or "fail"; "unjudged" of what is only told.
    """

    group: str
    name: str
    value: float
    low: float
    high: float
    verdict: str

    @property
    def passed(self) -> bool:
        """Whether the value lies in its band, or is not judged by it."""
        return self.verdict != "fail"


def check(group: str, name: str, value: float, low: float, high: float) -> Check:
    """Return the row of a value and its band; not a number fails.

    >>> check("V1", "like", 0.018, 0.017, 0.019).passed
    True
    """
    verdict = "pass" if low <= value <= high else "fail"
    return Check(group, name, value, low, high, verdict)


def check_moments(found: Moments, target: Moments) -> list[Check]:
    """Return the rows of V1, but for the people's.

    The tail of sessions has none where the target's are so short that it is not fitted.
    """
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


def check_fit(found: Moments, target: Moments) -> list[Check]:
    """Return the rows of V1, with bands as wide as the simulated cards can tell.

    A rare event, and the likes that are followed by a follow, may be three binomial standard errors
    further off: a round of calibration is shorter than a check, and 5% of a rate is less than the
    errors of the few hundred events that it counts.
    """
    likes = max(found.n * target.rates["like"], 1.0)
    chance = target.joint.get("follow|like", 0.0)
    slack = {name: _errors(target.rates[name], found.n) for name in RARE}
    slack["follow given like, lift"] = _errors(chance, likes) / max(target.rates["follow"], 1e-12)
    return [_widened(row, slack.get(row.name, 0.0)) for row in check_moments(found, target)]


def check_cohorts(
    counts: Sequence[int], shares: Mapping[str, float], target: Mapping[str, float]
) -> list[Check]:
    """Return the rows of V1 about who the people are.

    Args:
        counts: of drawn people, by cohort.
        shares: of the cohorts in the preset, in the same order.
        target: those that they should have; empty: nothing is known of them.
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


def follow_lift(moments: Moments) -> float:
    """Return by how much likelier a follow is where there is a like."""
    return moments.joint.get("follow|like", 0.0) / max(moments.rates["follow"], 1e-12)


def gap_divergence(found: Moments, target: Moments) -> float:
    """Return the divergence of the target's gaps from the simulated ones, over the same days.

    Half a gap is added to each day of the simulated ones, so that a day that did not occur among
    a few is no contradiction.
    """
    counted = np.array(target.gaps)
    return divergence(counted, np.array(found.gaps)[: len(counted)] + 0.5)


def check_holdout(found: Moments, later: Moments) -> list[Check]:
    """Return the rows of a prediction: moments of a fitted world against those of a later log.

    Clicks, long views and mean watch time count within 5%; a rare event within a quarter of its
    rate plus three binomial standard errors of the later log.
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
    """Return three binomial standard errors; of an event that never came, those of one that did."""
    return STANDARD_ERRORS * float(np.sqrt(max(rate * (1.0 - rate), 1.0 / n) / n))


def _widened(row: Check, slack: float) -> Check:
    return check("fit", row.name, row.value, row.low - slack, row.high + slack)


def _near(group: str, name: str, value: float, target: float, band: float) -> Check:
    low, high = sorted((target * (1.0 - band), target * (1.0 + band)))
    return check(group, name, value, low, high)
