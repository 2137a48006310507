"""Estimates a draft preset from a log of swipes, and lists the constants that stay assumed.

A log identifies the answers, durations, session ends, gaps and cohorts. It does not identify
satisfaction, satiation, load, drift or bait, which keep their start values. The draft holds for
rested users; `env.calibration.calibrate` corrects the rest.

Details: `docs/decisions/world-fitting.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from env.arrays.reals import logistic
from env.calibration.fitting import People, fit
from env.calibration.impressions import DAY_MS, LEAST_CARDS, ImpressionTable, Sessions, day_gaps
from env.calibration.random_effects import CommonBlock
from env.calibration.return_gaps import (
    GapCounts,
    GapMixture,
    fit_gaps,
    kaplan_meier,
    survival_error,
)
from env.items.content import vector
from env.vocabulary import Floats, Ints, Item
from env.world.moods import N_TOPICS, StateDynamics
from env.world.presets import Cohort, Population, Preset, Uploads
from env.world.responses import ResponseModel
from env.world.world import topics

N_STEPS = 30

PRIOR_SD = 5.0


@dataclass(frozen=True, slots=True)
class ExitHazard:
    """Coefficients of the log-odds of leaving after a card, with their standard errors."""

    base: float  # after a valid play, first card
    position: float  # for each 100 cards before this one
    skipped: float  # without a valid play
    satiation: float  # for each unit of satiation with the card's topic; 0 where topics are unknown
    se: Floats  # (4,) in this order


def fit_exits(sessions: Sessions, moods: StateDynamics, topic: Ints | None = None) -> ExitHazard:
    """Return the hazard of a session's end.

    Each user's last session is left out, since the log may have ended before it did. `topic` is of
    each impression of `sessions.shown`, shape (n,) in [0, N_TOPICS).

    Raises:
        ValueError: no user has two sessions.
    """
    shown = sessions.shown
    whole = ~_in_last_session(sessions)
    if not whole.any():
        raise ValueError("expected a user with two sessions, got one each: no end was seen")
    had = np.zeros(len(shown)) if topic is None else satiation(sessions, topic, moods)
    design = np.column_stack(
        [np.ones(len(shown)), sessions.position / 100.0, ~shown.valid_play(), had]
    )[whole].astype(np.float64)
    beta, se = _fit_logistic(design, sessions.last()[whole].astype(np.float64))
    base, position, skipped, satiated = beta.tolist()
    return ExitHazard(base, position, skipped, satiated, se)


def satiation(sessions: Sessions, topic: Ints, moods: StateDynamics) -> Floats:
    """Return satiation with each card's topic after it, shape (n,); sessions begin at 0."""
    starts = np.flatnonzero(sessions.first)
    lengths = sessions.lengths()
    had = np.zeros(len(topic), dtype=np.float64)
    level = np.zeros((len(starts), N_TOPICS), dtype=np.float64)
    for position in range(int(lengths.max(initial=0))):
        session = np.flatnonzero(lengths > position)
        card = starts[session] + position
        level *= moods.satiation_decay
        level[session, topic[card]] += moods.satiation_step
        had[card] = level[session, topic[card]]
    return had


def _in_last_session(sessions: Sessions) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    number = np.cumsum(sessions.first)
    user = sessions.shown.user
    ends = np.flatnonzero(np.append(np.diff(user) != 0, np.ones(min(len(user), 1), np.bool_)))
    return np.isin(number, number[ends])


def _fit_logistic(design: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return coefficients and standard errors under a wide normal prior, by Newton's method."""
    prior_sd = np.full(design.shape[1], PRIOR_SD)
    block = CommonBlock(design, prior_sd)
    eta = np.zeros(len(y), dtype=np.float64)
    for _ in range(N_STEPS):
        p = np.asarray(logistic(eta))
        w = np.maximum(p * (1.0 - p), 1e-4)
        eta = np.clip(block.move(w, eta + (y - p) / w), -15.0, 15.0)
    p = np.asarray(logistic(eta))
    information = (design.T * (p * (1.0 - p))) @ design + np.diag(1.0 / prior_sd**2)
    return block.beta, np.sqrt(np.diag(np.linalg.inv(information)))


FOLLOWED_DAYS = 60

LEAST_DAYS = 14
"""Length in days below which a log's chances of return are assumed and only their weights are
fitted."""

LEAST_GAPS = 300
"""Number of gaps below which a cohort takes the overall weights of the classes."""


@dataclass(frozen=True, slots=True)
class WorldLog:
    """Impressions with the items and users that they refer to.

    Attributes:
        midnight_ms: any local midnight, Unix milliseconds.
        has_vectors: whether items have more than an id and a duration.
    """

    impressions: ImpressionTable
    items: Sequence[Item]
    users: People
    midnight_ms: int = 0
    has_vectors: bool = True

    def n_days(self) -> int:
        """Return the calendar days from the first impression to the last."""
        day = (self.impressions.at_ms - self.midnight_ms) // DAY_MS
        return int(np.ptp(day)) + 1

    def part(self, impressions: ImpressionTable) -> "WorldLog":
        """Return the log with only these impressions."""
        return WorldLog(impressions, self.items, self.users, self.midnight_ms, self.has_vectors)


@dataclass(frozen=True, slots=True)
class ParameterEstimate:
    """One line about a constant: its value, and how it is known."""

    name: str
    value: str
    how: str
    identified: bool = True


def identify(log: WorldLog, start: Preset) -> tuple[Preset, list[ParameterEstimate]]:
    """Return a draft of the preset behind a log, with a line for each constant.

    Constants that the log does not identify are kept from `start`.

    Raises:
        ValueError: there are fewer than 100 impressions of a full screen, or no gap between days.
    """
    model = fit(log.impressions, log.items, log.users, taste_sd=start.priors.taste_sd)
    uploads = _durations(log.impressions, start.uploads)
    gaps = day_gaps(log.impressions, log.midnight_ms, FOLLOWED_DAYS)
    is_long = log.n_days() >= LEAST_DAYS
    classes = np.array(start.moods.return_classes)
    mixture = fit_gaps(gaps, chance=None if is_long else classes)
    sessions = Sessions.of(log.impressions)
    hazard = fit_exits(sessions, start.moods, _topics(log, sessions))
    population = _population(log, model, mixture, start.population)
    usable = float(sessions.lengths().mean()) >= LEAST_CARDS
    moods = replace(
        start.moods,
        return_classes=(float(mixture.chance[0]), float(mixture.chance[1])),
        daily_share=population.daily_share(),
        tired=hazard.position if usable else start.moods.tired,
    )
    preset = replace(
        start,
        population=population,
        rates=replace(model.rates, satiation=start.rates.satiation, load=start.rates.load),
        moods=moods,
        priors=model.priors,
        uploads=uploads,
        intercept=model.intercept,
        duration=model.duration,
    )
    return preset, [
        *_answers(model),
        ParameterEstimate(
            "duration",
            f"LN(ln {np.exp(uploads.log_duration_mu):.0f}, {uploads.log_duration_sd:.2f})",
            "mean and deviation of ln seconds, an impression each",
        ),
        *_leaving(hazard, sessions, usable),
        *_returning(gaps, mixture, is_long),
        ParameterEstimate("cohorts", _named_shares(population), f"{len(log.users):,} users"),
        *_assumed(preset),
    ]


def _durations(impressions: ImpressionTable, start: Uploads) -> Uploads:
    known = impressions.duration_s[impressions.duration_s > 0.0]
    least_s, most_s = np.quantile(known, [0.001, 0.999])
    return replace(
        start,
        log_duration_mu=float(np.log(known).mean()),
        log_duration_sd=float(np.log(known).std()),
        least_s=float(least_s),
        most_s=float(most_s),
    )


def _topics(log: WorldLog, sessions: Sessions) -> Ints | None:
    if not log.has_vectors:
        return None
    of_item = topics(np.array([vector(item) for item in log.items], dtype=np.float64))
    return np.asarray(of_item[sessions.shown.item])


def _population(
    log: WorldLog, model: ResponseModel, mixture: GapMixture, start: Population
) -> Population:
    """Return cohorts with their shares of the users, leans, and shares of the daily class."""
    names = [profile.cohort or "everybody" for _, profile in log.users]
    cohorts = sorted(set(names))
    share = np.array([names.count(name) for name in cohorts]) / len(names)
    leans = dict(zip(model.cohorts.names, model.cohorts.lean.tolist(), strict=True))
    lean = np.array([leans.get("" if name == "everybody" else name, 0.0) for name in cohorts])
    lean = lean - share @ lean
    of_cohort = np.array([cohorts.index(name) for name in names])[log.impressions.user]
    daily = [
        _daily_share(log, log.impressions.take(of_cohort == k), mixture)
        for k in range(len(cohorts))
    ]
    return replace(
        start,
        cohorts={
            name: Cohort(share=float(share[k]), daily_share=daily[k], lean=float(lean[k]))
            for k, name in enumerate(cohorts)
        },
    )


def _daily_share(log: WorldLog, of_cohort: ImpressionTable, mixture: GapMixture) -> float:
    """Return the daily class's share of a cohort's users; the chances are shared by all."""
    gaps = day_gaps(of_cohort, log.midnight_ms, FOLLOWED_DAYS)
    if gaps.observed.sum() >= LEAST_GAPS:
        mixture = fit_gaps(gaps, chance=mixture.chance)
    return float(np.clip(mixture.users()[0], 0.02, 0.98))


def _answers(model: ResponseModel) -> list[ParameterEstimate]:
    rates, priors = model.rates, model.priors
    return [
        ParameterEstimate(
            "engagement", f"log-odds {model.intercept:.2f}", "latent, by EM on watch times"
        ),
        ParameterEstimate("skip", f"LN({rates.skip_mu:.2f}, {rates.skip_sd:.2f})", "EM"),
        ParameterEstimate(
            "watch",
            f"LN({rates.watch_mu:.2f} + {rates.watch_duration:.2f} length, {rates.watch_sd:.2f})",
            "EM; capped views are censored",
        ),
        ParameterEstimate("zero, loop", f"{rates.zero:.3f}, {rates.loop:.3f}", "EM"),
        ParameterEstimate(
            "like, comment, share, follow",
            ", ".join(
                f"{value:.2g}"
                for value in (
                    1.0 / (1.0 + float(np.exp(-rates.like))),
                    rates.comment,
                    rates.share,
                    rates.follow,
                )
            ),
            "closed form, given engagement",
        ),
        ParameterEstimate(
            "items, users",
            f"sd {priors.effect_sd:.2f}, {priors.lean_sd:.2f}",
            "crossed random effects",
        ),
    ]


def _leaving(hazard: ExitHazard, sessions: Sessions, usable: bool) -> list[ParameterEstimate]:
    lengths = sessions.lengths()
    se = hazard.se
    return [
        ParameterEstimate(
            "leaving",
            f"{hazard.base:.2f} ± {se[0]:.2f}, {hazard.position:+.2f} ± {se[1]:.2f} for 100 cards, "
            f"{hazard.skipped:+.2f} ± {se[2]:.2f} unplayed",
            f"logistic regression over {len(lengths):,} sessions of {lengths.mean():.1f} cards"
            + ("" if usable else "; too short, so the slope is not taken"),
            identified=usable,
        ),
        ParameterEstimate(
            "leaving when satiated",
            f"{hazard.satiation:+.2f} ± {se[3]:.2f}",
            "an association: cards were chosen by a user, so it is not taken",
            identified=False,
        ),
    ]


def _returning(gaps: GapCounts, mixture: GapMixture, is_long: bool) -> list[ParameterEstimate]:
    daily, other = mixture.chance.tolist()
    seen = kaplan_meier(gaps)[[0, min(6, len(gaps.observed) - 1)]]
    return [
        ParameterEstimate(
            "return classes",
            f"{daily:.3f} ({mixture.users()[0]:.0%} of users), {other:.3f}",
            f"EM over {int(gaps.observed.sum()):,} gaps, {int(gaps.censored.sum()):,} cut off; "
            f"survival off by {survival_error(gaps, mixture):.3f}"
            + ("" if is_long else "; the log is short, so the chances are assumed"),
        ),
        ParameterEstimate(
            "back by day 1, 7", f"{1.0 - seen[0]:.1%}, {1.0 - seen[1]:.1%}", "Kaplan and Meier"
        ),
    ]


def _assumed(preset: Preset) -> list[ParameterEstimate]:
    moods, population = preset.moods, preset.population
    return [
        ParameterEstimate(name, value, "assumed", identified=False)
        for name, value in (
            ("satisfaction", f"step {moods.satisfaction_step:g} a card, hidden"),
            ("satiation, load", f"{moods.satiation_step:g}, {moods.load_step:g} a card"),
            ("taste", f"sd {preset.priors.taste_sd:g}, drift {population.drift:g} a day"),
            ("newcomers", f"{population.newcomers:.0%} of the users"),
            ("creators", f"{preset.uploads.n_creators}, {preset.uploads.a_day:g} uploads a day"),
        )
    ]


def _named_shares(population: Population) -> str:
    most = sorted(population.cohorts.items(), key=lambda entry: -entry[1].share)[:3]
    more = len(population.cohorts) - len(most)
    named = ", ".join(f"{name} {cohort.share:.1%}" for name, cohort in most)
    return named + (f" and {more} more" if more else "")
