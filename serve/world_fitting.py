"""Fits a simulated world to a log and writes it as a preset: identify, then calibrate.

A shipped preset is rebuilt from its recipe in the same way, so each of its figures comes from a
command. Prediction is tested by fitting the earlier part of a log and comparing with the later one.
"""

from collections.abc import Callable

import msgspec
import numpy as np
from msgspec.structs import replace

from env.calibration import calibrate
from env.check import Check, check_fit, check_holdout
from env.gaps import GapMixture, Gaps, fit_gaps
from env.identify import LEAST_DAYS, Finding, Log, identify
from env.moments import GAP_DAYS, Moments, moments_of
from env.presets import Population, Preset
from env.recipes import (
    DAILY_SOURCE,
    KUAIRAND_GAPS,
    KUAIRAND_SOURCE,
    SESSION_CARDS,
    assumed_tail,
    daily,
    kuairand_draft,
    kuairand_target,
    kuaisim,
    rapid,
    with_assumed_visits,
)
from env.simulated import LOG_DAYS, count
from serve.refused import Refused

Advance = Callable[[int], None]
"""Called with the cards simulated since the last call."""

SEED = 10_000_000
N_ROUNDS = 14


NOT_OF_PURE = ("leaving", "leaving when satiated", "return classes", "back by day 1, 7")
VISITS_OF_PURE = [
    Finding(
        "return classes", "two", f"EM over {sum(KUAIRAND_GAPS):,} published gaps, then calibrated"
    ),
    Finding("sessions", f"{SESSION_CARDS:g} cards", "assumed: Pure keeps parts", identified=False),
    Finding("who comes daily", "by cohort", "assumed in their order", identified=False),
]


class Fitted(msgspec.Struct, frozen=True):
    """A fitted preset and its quality.

    Attributes:
        findings: identified and assumed parameters.
        checks: summary statistics of its world against their targets.
        holdout: the same against a later part of the log; empty without one.
    """

    preset: Preset
    findings: list[Finding]
    checks: list[Check]
    holdout: list[Check]

    def missed(self) -> list[Check]:
        """Return the rows of both that are outside of their band."""
        return [row for row in (*self.checks, *self.holdout) if not row.passed]


def fit_log(
    log: Log,
    name: str,
    source: str,
    *,
    session_cards: float | None = None,
    holdout: float = 0.0,
    n_cards: int = 1_000_000,
    n_rounds: int = N_ROUNDS,
    advance: Advance | None = None,
) -> Fitted:
    """Return the preset of a log's world.

    In a log shorter than two weeks most gaps between visits are censored. The target is then the
    law fitted to all gaps, censored ones included, instead of the few that ended.

    Args:
        source: origin of the figures.
        session_cards: mean session length, where the log holds only parts of sessions.
        holdout: share of the log, the latest impressions, that is kept out and predicted.
        n_cards: cards simulated in each calibration round.

    Raises:
        Refused: the log is too small.
    """
    earlier, later = _split(log, holdout)
    try:
        target = moments_of(earlier.impressions, log.midnight_ms)
        draft, findings = identify(earlier, _start(name, source))
    except ValueError as error:
        raise Refused(f"a world cannot be fitted to the log: {error}") from error
    if session_cards is not None:
        target = _assume_sessions(target, session_cards)
    target = replace(target, cohorts=draft.population.shares())
    days = earlier.n_days()
    if days < LEAST_DAYS:
        days, target = LOG_DAYS, _complete_gaps(target, draft)
    preset, found = _calibrate(draft, target, days, n_cards, n_rounds, advance)
    return Fitted(
        preset,
        findings,
        check_fit(found, target),
        check_holdout(found, moments_of(later.impressions, log.midnight_ms)) if holdout else [],
    )


def make_named(
    name: str, log: Log | None, *, n_cards: int, advance: Advance | None = None
) -> Fitted:
    """Return a shipped preset, rebuilt from its recipe.

    Args:
        name: one of `env.presets.NAMED`.
        log: KuaiRand's log, needed by `kuairand` only.
        n_cards: cards simulated in each calibration round.

    Raises:
        Refused: there is no such recipe, or it needs a log.
    """
    made = f"made by `nextswipe world fit --named {name} --cards {n_cards}"
    findings: list[Finding] = []
    match name:
        case "rapid" | "kuaisim":
            preset = rapid() if name == "rapid" else kuaisim()
            return Fitted(preset, [], [], [])
        case "daily":
            draft, target = daily()
            draft = replace(draft, source=f"{DAILY_SOURCE}; {made}`")
        case "kuairand" if log is not None:
            draft, findings = identify(log, kuairand_draft(f"{KUAIRAND_SOURCE}; {made} --log DIR`"))
            target = kuairand_target(log.impressions, log.midnight_ms)
            target = replace(target, cohorts=draft.population.shares())
            draft = _with_published_visits(draft, target)
            findings = [row for row in findings if row.name not in NOT_OF_PURE] + VISITS_OF_PURE
        case "kuairand":
            raise Refused("the preset kuairand needs KuaiRand's log for its watch times: --log DIR")
        case _:
            raise Refused(f"expected kuairand, daily, kuaisim or rapid, got {name!r}")
    preset, found = _calibrate(draft, target, LOG_DAYS, n_cards, N_ROUNDS, advance)
    return Fitted(preset, findings, check_fit(found, target), [])


def _calibrate(
    draft: Preset, target: Moments, days: int, n_cards: int, n_rounds: int, advance: Advance | None
) -> tuple[Preset, Moments]:
    def simulate(preset: Preset, people: int) -> Moments:
        seed = SEED * (1 + people)
        return count(preset, n_cards, seed, days=days, advance=advance).moments

    return calibrate(draft, target, simulate, n_rounds)


def _split(log: Log, holdout: float) -> tuple[Log, Log]:
    shown = log.impressions
    order = np.argsort(shown.at_ms, kind="stable")
    n = len(shown) - round(holdout * len(shown))
    return log.part(shown.take(order[:n])), log.part(shown.take(order[n:]))


def _start(name: str, source: str) -> Preset:
    return Preset(name=name, source=source, population=Population(cohorts={}))


def _assume_sessions(target: Moments, cards: float) -> Moments:
    return replace(
        target,
        session_cards=cards,
        session_tail=assumed_tail(cards),
        assumed=("session_cards", "session_tail"),
    )


def _complete_gaps(target: Moments, draft: Preset) -> Moments:
    """Return the target with a million gaps distributed as the draft's return classes imply."""
    chance = np.array(draft.moods.return_classes)
    people = np.array([draft.moods.daily_share, 1.0 - draft.moods.daily_share])
    weight = people * chance
    pmf = GapMixture(weight / weight.sum(), chance).pmf(GAP_DAYS)
    counts = tuple(np.round(1e6 * pmf).astype(int).tolist())
    return replace(target, gaps=counts, assumed=(*target.assumed, "gaps"))


def _with_published_visits(draft: Preset, target: Moments) -> Preset:
    """Return the draft with the return classes fitted to the published gaps."""
    mixture = fit_gaps(Gaps.of_counts(target.gaps))
    first, second = mixture.chance.tolist()
    population = with_assumed_visits(draft.population, float(mixture.people()[0]))
    moods = replace(
        draft.moods, return_classes=(first, second), daily_share=population.daily_share()
    )
    return replace(draft, moods=moods, population=population)
