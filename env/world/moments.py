"""Summary statistics of a log of swipes, for comparing a simulated world with its target.

The same function computes them for imported and simulated logs. They hold counts and quantiles
only, never data of one user.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from env.calibration.impressions import ImpressionTable, Sessions, day_gaps, tail_slope
from env.feedback import DRAWN_REACTIONS, SIMULATED_EVENTS
from env.vocabulary import Bools, Floats

SIGNALS = SIMULATED_EVENTS

RARE: tuple[str, ...] = DRAWN_REACTIONS

JOINT = (
    "long_view|valid_play",
    *(f"{rare}|valid_play" for rare in RARE),
    "like|long_view",
    "comment|like",
    "share|like",
    "follow|like",
)

GAP_DAYS = 16

QUANTILES = np.arange(1, 100) / 100.0


class LogStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Summary statistics of a log."""

    n: int  # impressions
    rates: dict[str, float]  # of `SIGNALS`, a share of the impressions
    joint: dict[str, float]  # P(b | a) by "b|a", for pairs of `JOINT` whose condition occurred
    watch_mean_s: float
    watch_zero: float  # share of the impressions played for exactly 0 s
    log_watch: tuple[float, ...]  # quantiles .01, .02, .. .99 of ln seconds, without those
    gaps: tuple[int, ...]  # counts of gaps of 1, 2, .. days between days of visit
    session_cards: float  # mean number of cards of a session
    session_tail: float  # slope of ln P(length > n) in n, beyond the median length
    cohorts: dict[str, float] = {}  # shares of the users; empty if unknown
    assumed: tuple[str, ...] = ()  # names of the fields above that are not from a log

    def without(self, signal: str) -> float:
        """Return P(signal | no valid play), which the rates and `joint` imply."""
        valid = self.rates["valid_play"]
        both = self.joint[f"{signal}|valid_play"] * valid
        return max(self.rates[signal] - both, 0.0) / (1.0 - valid)


def log_statistics(
    impressions: ImpressionTable, midnight_ms: int = 0, weight: Floats | None = None
) -> LogStatistics:
    """Return the summary statistics of a log.

    Days begin at `midnight_ms`, any local midnight; `weight`, shape (n,), weighs impressions in
    rates and watch time.

    Raises:
        ValueError: no impression was played.
    """
    if not len(impressions) or not np.any(impressions.play_s > 0.0):
        raise ValueError("expected impressions that were played, got none: there are no moments")
    weight = np.ones(len(impressions)) if weight is None else weight
    events = events_of(impressions)
    lengths = Sessions.of(impressions).lengths()
    played = impressions.play_s > 0.0
    return LogStatistics(
        n=len(impressions),
        rates={name: _share(events[name], weight) for name in SIGNALS},
        joint=_joint(events, weight),
        watch_mean_s=float(np.average(impressions.play_s, weights=weight)),
        watch_zero=_share(~played, weight),
        log_watch=_quantiles(np.log(impressions.play_s[played]), weight[played]),
        gaps=tuple(day_gaps(impressions, midnight_ms, GAP_DAYS).observed.tolist()),
        session_cards=float(lengths.mean()),
        session_tail=tail_slope(lengths),
    )


def pool(parts: Sequence[LogStatistics]) -> LogStatistics:
    """Return the pooled statistics of logs of the same world with different users.

    All are exact except the quantiles of ln watch time and the slope, which are averaged.

    Raises:
        ValueError: there are none to pool.
    """
    if not parts:
        raise ValueError("expected the moments of at least one log, got none")
    n = np.array([part.n for part in parts], dtype=np.float64)
    joint = {}
    for pair in JOINT:
        there = [k for k, part in enumerate(parts) if pair in part.joint]
        if there:
            condition = pair.split("|")[1]
            weight = [n[k] * parts[k].rates[condition] for k in there]
            joint[pair] = float(np.average([parts[k].joint[pair] for k in there], weights=weight))
    n_sessions = n / [part.session_cards for part in parts]
    quantiles = np.average([part.log_watch for part in parts], axis=0, weights=n)
    return LogStatistics(
        n=int(n.sum()),
        rates={
            name: float(np.average([part.rates[name] for part in parts], weights=n))
            for name in SIGNALS
        },
        joint=joint,
        watch_mean_s=float(np.average([part.watch_mean_s for part in parts], weights=n)),
        watch_zero=float(np.average([part.watch_zero for part in parts], weights=n)),
        log_watch=tuple(quantiles.round(4).tolist()),
        gaps=tuple(np.sum([part.gaps for part in parts], axis=0).tolist()),
        session_cards=float(n.sum() / n_sessions.sum()),
        session_tail=float(np.average([part.session_tail for part in parts], weights=n_sessions)),
    )


def events_of(impressions: ImpressionTable) -> dict[str, Bools]:
    """Return the events of `SIGNALS`, each of shape (n,)."""
    rare = {name: np.asarray(getattr(impressions, name)) for name in RARE}
    return {"valid_play": impressions.valid_play(), "long_view": impressions.long_view(), **rare}


def poststratify(impressions: ImpressionTable, rates: Mapping[str, float]) -> Floats:
    """Return weights under which valid plays and long views have these rates, shape (n,).

    A sample of a few days differs from the whole log by more than its size explains, and its watch
    times may contradict the whole log's rates. The few long views outside of valid plays keep their
    share.

    Raises:
        ValueError: the rates are not nested shares.
    """
    valid, long = impressions.valid_play(), impressions.long_view()
    if not 0.0 < rates["long_view"] < rates["valid_play"] < 1.0:
        raise ValueError(f"expected 0 < long views < valid plays < 1, got {dict(rates)}")
    odd = float(np.mean(long & ~valid))
    strata: tuple[tuple[Bools, float], ...] = (
        (~valid, 1.0 - rates["valid_play"]),
        (valid & ~long, rates["valid_play"] - rates["long_view"] + odd),
        (valid & long, rates["long_view"] - odd),
    )
    weight = np.zeros(len(impressions))
    for rows, share in strata:
        weight[rows] = share * len(impressions) / max(int(np.count_nonzero(rows)), 1)
    return weight


def watch_distance(one: LogStatistics, other: LogStatistics) -> float:
    """Return the Wasserstein-1 distance of ln watch time, without views of 0 s.

    It is the integral of |F^-1 - G^-1|, as the mean over the quantiles .01 to .99.
    """
    return float(np.mean(np.abs(np.subtract(one.log_watch, other.log_watch))))


def _joint(events: Mapping[str, Bools], weight: Floats) -> dict[str, float]:
    joint = {}
    for pair in JOINT:
        effect, condition = pair.split("|")
        given = events[condition]
        if given.any():
            joint[pair] = _share(events[effect][given], weight[given])
    return joint


def _share(event: Bools, weight: Floats) -> float:
    return float(np.average(event, weights=weight))


def _quantiles(values: Floats, weight: Floats) -> tuple[float, ...]:
    order = np.argsort(values, kind="stable")
    reach = np.cumsum(weight[order])
    reach = (reach - 0.5 * weight[order]) / reach[-1]
    return tuple(np.interp(QUANTILES, reach, values[order]).round(4).tolist())
