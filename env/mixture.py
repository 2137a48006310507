"""The watch-time mixture behind an answer: the E and M steps that fit engaged views and skips.

    f(w | not E) = p_0 at 0, else (1 - p_0) LN(mu_0, s_0) capped at the duration
    f(w | E)     = LN(mu_1 + b u + d length, s_1), capped at the duration unless it loops

A capped view is censored: it counts with the tail at the duration. The slope b in u is not fitted.

Reasons and measurements: `docs/decisions/world-fitting.md`.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from env.answers import Rates, log_duration
from env.impressions import Impressions
from env.reals import normal_tail
from env.vocabulary import Bools, Floats

LOOPED = 1.05
_ROOT_TAU = float(np.sqrt(2.0 * np.pi))
_LEAST_SD = 0.1


@dataclass(frozen=True, slots=True)
class Views:
    """Watch times prepared for the mixture, columns over n impressions."""

    log_s: Floats  # (n,) ln seconds, at the cap where capped; 0 where immediate
    length: Floats  # (n,) ln duration around its centre, 0 where unknown
    immediate: Bools  # (n,) played 0 s
    ended: Bools  # (n,) played to the end or beyond
    looped: Bools  # (n,)

    @staticmethod
    def of(impressions: Impressions) -> "Views":
        """Return the views of these impressions."""
        play_s, duration_s = impressions.play_s, impressions.duration_s
        known = duration_s > 0.0
        ended = known & (play_s >= duration_s)
        looped = known & (play_s > LOOPED * duration_s)
        immediate = play_s <= 0.0
        cut = np.where(ended & ~looped, duration_s, play_s)
        return Views(
            log_s=np.log(np.where(immediate, 1.0, cut)),
            length=log_duration(duration_s),
            immediate=immediate,
            ended=ended,
            looped=looped,
        )


def engagement(views: Views, rates: Rates, u: Floats) -> Floats:
    """Return P(E | watch time), shape (n,): the E step.

    `u`, shape (n,), is the log-odds of E before the watch time is known.
    """
    mu = rates.watch_mu + rates.watch_u * u + rates.watch_duration * views.length
    watched = (views.log_s - mu) / rates.watch_sd
    skipped = (views.log_s - rates.skip_mu) / rates.skip_sd
    capped = views.ended & ~views.looped
    engaged = np.where(
        capped,
        (1.0 - rates.loop) * normal_tail(watched),
        np.where(views.looped, rates.loop, 1.0) * _density(watched, rates.watch_sd),
    )
    skip = np.where(capped, normal_tail(skipped), _density(skipped, rates.skip_sd))
    skip = np.where(views.looped, 0.0, (1.0 - rates.zero) * skip)
    odds = np.exp(u) * engaged
    return np.where(views.immediate, 0.0, odds / np.maximum(odds + skip, 1e-300))


def fit_watch(views: Views, rates: Rates, u: Floats, engaged: Floats) -> Rates:
    """Return the rates with the mixture's parameters moved: the M step.

    `u` is the log-odds of E, `engaged` P(E | watch time), shapes (n,).
    """
    skipped = 1.0 - engaged
    capped = views.ended & ~views.looped
    skip_mu, skip_sd = _fit_skip(views, rates, skipped * ~views.immediate, capped)
    mu = rates.watch_mu + rates.watch_u * u + rates.watch_duration * views.length
    mean, variance = _completed(views.log_s, mu, rates.watch_sd, capped)
    design = np.column_stack([np.ones(len(u)), views.length])
    weighted = design.T * engaged
    slopes = np.linalg.solve(
        weighted @ design + np.diag([0.0, 1.0]), weighted @ (mean - rates.watch_u * u)
    )
    miss = mean - rates.watch_u * u - design @ slopes
    square = np.sum(engaged * (miss**2 + variance))
    return msgspec.structs.replace(
        rates,
        zero=float(np.sum(skipped[views.immediate]) / max(np.sum(skipped), 1e-9)),
        skip_mu=skip_mu,
        skip_sd=skip_sd,
        watch_mu=float(slopes[0]),
        watch_duration=float(slopes[1]),
        watch_sd=max(float(np.sqrt(square / max(np.sum(engaged), 1e-9))), _LEAST_SD),
        loop=float(np.sum(engaged[views.looped]) / max(np.sum(engaged[views.ended]), 1e-9)),
    )


def _fit_skip(views: Views, rates: Rates, weight: Floats, capped: Bools) -> tuple[float, float]:
    total = max(float(np.sum(weight)), 1e-9)
    mean, variance = _completed(
        views.log_s, np.full(len(weight), rates.skip_mu), rates.skip_sd, capped
    )
    mu = float(np.sum(weight * mean) / total)
    square = float(np.sum(weight * ((mean - mu) ** 2 + variance)) / total)
    return mu, max(float(np.sqrt(square)), _LEAST_SD)


def _completed(log_s: Floats, mu: Floats, sd: float, capped: Bools) -> tuple[Floats, Floats]:
    """Return mean and variance of ln seconds without the cap, given the observed view."""
    z = np.clip((log_s - mu) / sd, -8.0, 4.0)
    hazard = np.exp(-0.5 * z * z) / (_ROOT_TAU * normal_tail(z))
    mean = np.where(capped, mu + sd * hazard, log_s)
    variance = np.where(capped, sd**2 * (1.0 + z * hazard - hazard**2), 0.0)
    return mean, np.maximum(variance, 0.0)


def _density(z: Floats, sd: float) -> Floats:
    return np.exp(-0.5 * z * z) / (_ROOT_TAU * sd)
