"""Fits a simulated world to a log and writes it as a preset: identify, then calibrate.

A shipped preset is rebuilt from its recipe in the same way, so each of its figures comes from a
command. Prediction is tested by fitting the earlier part of a log and comparing with the later one.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from env.calibration.calibrate import calibrate
from env.calibration.checks import Check, check_fit, check_holdout
from env.calibration.identify import LEAST_DAYS, ParameterEstimate, WorldLog, identify
from env.calibration.recipes import (
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
from env.calibration.simulated import LOG_DAYS, count
from env.feedback import DRAWN_REACTIONS
from env.vocabulary import Floats, Item, ItemId, Profile, UserId
from env.world.impressions import ImpressionTable
from env.world.log_statistics import GAP_DAYS, LogStatistics, log_statistics
from env.world.logged_gaps import GapCounts, GapMixture, fit_gaps
from env.world.presets import Population, Preset
from replay.join.dataset import Dataset
from replay.join.rows import FLAGS
from serve.config import Config
from serve.errors import JobError
from serve.importers import kuairand
from serve.jobs.evaluate import read_dataset
from serve.store.data_folder import open_data


def read_log(path: Path) -> WorldLog:
    """Return the log in a file or folder.

    Raises:
        BadFile: it is KuaiRand's, and invalid.
        JobError: it is a data folder with an unusable log.
    """
    if path.is_dir() and not any(path.glob("log_standard*")):
        return _read_own(path)
    found = kuairand.read(path) if path.is_dir() else kuairand.read_log(path)
    return WorldLog(
        found.impressions,
        found.items,
        found.users,
        midnight_ms=kuairand.LAST_DAY_MS,
        has_vectors=any(item.tags for item in found.items),
    )


def _read_own(folder: Path) -> WorldLog:
    config = Config()
    config = replace(config, data=replace(config.data, folder=str(folder)))
    with open_data(config) as store:
        dataset = read_dataset(config, store)
        with store.view() as view:
            known = {item.item_id: item for item in view.items()}
            users = view.users()
    shown = [
        dataset.pages[page].candidates[action]
        for page, action in zip(dataset.page.tolist(), dataset.action.tolist(), strict=True)
    ]
    index = {item_id: k for k, item_id in enumerate(dict.fromkeys(shown))}
    nobody = (UserId(""), Profile())
    return WorldLog(
        _impressions(dataset, [index[item_id] for item_id in shown]),
        [_item(known, item_id) for item_id in index],
        [users.get(user, nobody) for user in dataset.users],
    )


def _item(known: dict[ItemId, Item], item_id: ItemId) -> Item:
    return known.get(item_id) or Item(item_id=item_id)


def _impressions(dataset: Dataset, item: list[int]) -> ImpressionTable:
    """Return decisions as impressions; each deleted user stays distinct."""
    drawn_ms = np.array([page.at_ms for page in dataset.pages], dtype=np.int64)[dataset.page]
    flags = dict(zip(FLAGS, dataset.flags.T, strict=True))
    return ImpressionTable(
        user=dataset.user,
        item=np.array(item, dtype=np.int64),
        at_ms=drawn_ms + (1000.0 * _begins_s(dataset)).astype(np.int64),
        surface=np.zeros(len(dataset), dtype=np.int64),
        play_s=dataset.dwell_s,
        duration_s=dataset.duration_s,
        **{kind: flags[kind] for kind in DRAWN_REACTIONS},
    )


def _begins_s(dataset: Dataset) -> Floats:
    """Return the seconds from a page's draw to each of its cards; pages stand together."""
    order = np.lexsort((dataset.slot, dataset.page))
    dwell_s = dataset.dwell_s[order]
    before = np.cumsum(dwell_s) - dwell_s
    page = dataset.page[order]
    first = np.append(True, np.diff(page) != 0)
    begins = before - np.repeat(before[first], np.diff(np.append(np.flatnonzero(first), len(page))))
    result = np.empty(len(dataset), dtype=np.float64)
    result[order] = begins
    return result


Advance = Callable[[int], None]
"""Called with the cards simulated since the last call."""

SEED = 10_000_000
N_ROUNDS = 14
NOT_OF_PURE = ("leaving", "leaving when satiated", "return classes", "back by day 1, 7")

VISITS_OF_PURE = [
    ParameterEstimate(
        "return classes", "two", f"EM over {sum(KUAIRAND_GAPS):,} published gaps, then calibrated"
    ),
    ParameterEstimate(
        "sessions", f"{SESSION_CARDS:g} cards", "assumed: Pure keeps parts", identified=False
    ),
    ParameterEstimate("who comes daily", "by cohort", "assumed in their order", identified=False),
]


class Fitted(msgspec.Struct, frozen=True):
    """A fitted preset and its quality.

    Attributes:
        findings: identified and assumed parameters.
        checks: summary statistics of its world against their targets.
        holdout: the same against a later part of the log; empty without one.
    """

    preset: Preset
    findings: list[ParameterEstimate]
    checks: list[Check]
    holdout: list[Check]

    def missed(self) -> list[Check]:
        """Return the rows of both that are outside of their band."""
        return [row for row in (*self.checks, *self.holdout) if not row.passed]


def fit_log(
    log: WorldLog,
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
        JobError: the log is too small.
    """
    earlier, later = _split(log, holdout)
    try:
        target = log_statistics(earlier.impressions, log.midnight_ms)
        draft, findings = identify(earlier, _start(name, source))
    except ValueError as error:
        raise JobError(f"a world cannot be fitted to the log: {error}") from error
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
        check_holdout(found, log_statistics(later.impressions, log.midnight_ms)) if holdout else [],
    )


def make_named(
    name: str, log: WorldLog | None, *, n_cards: int, advance: Advance | None = None
) -> Fitted:
    """Return a shipped preset, rebuilt from its recipe.

    Args:
        name: one of `env.world.presets.NAMED`.
        log: KuaiRand's log, needed by `kuairand` only.
        n_cards: cards simulated in each calibration round.

    Raises:
        JobError: there is no such recipe, or it needs a log.
    """
    made = f"made by `nextswipe world fit --named {name} --cards {n_cards}"
    findings: list[ParameterEstimate] = []
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
            raise JobError(
                "the preset kuairand needs KuaiRand's log for its watch times: --log DIR"
            )
        case _:
            raise JobError(f"expected kuairand, daily, kuaisim or rapid, got {name!r}")
    preset, found = _calibrate(draft, target, LOG_DAYS, n_cards, N_ROUNDS, advance)
    return Fitted(preset, findings, check_fit(found, target), [])


def _calibrate(
    draft: Preset,
    target: LogStatistics,
    days: int,
    n_cards: int,
    n_rounds: int,
    advance: Advance | None,
) -> tuple[Preset, LogStatistics]:
    def simulate(preset: Preset, users: int) -> LogStatistics:
        seed = SEED * (1 + users)
        return count(preset, n_cards, seed, days=days, advance=advance).moments

    return calibrate(draft, target, simulate, n_rounds)


def _split(log: WorldLog, holdout: float) -> tuple[WorldLog, WorldLog]:
    shown = log.impressions
    order = np.argsort(shown.at_ms, kind="stable")
    n = len(shown) - round(holdout * len(shown))
    return log.part(shown.take(order[:n])), log.part(shown.take(order[n:]))


def _start(name: str, source: str) -> Preset:
    return Preset(name=name, source=source, population=Population(cohorts={}))


def _assume_sessions(target: LogStatistics, cards: float) -> LogStatistics:
    return replace(
        target,
        session_cards=cards,
        session_tail=assumed_tail(cards),
        assumed=("session_cards", "session_tail"),
    )


def _complete_gaps(target: LogStatistics, draft: Preset) -> LogStatistics:
    """Return the target with a million gaps distributed as the draft's return classes imply."""
    chance = np.array(draft.moods.return_classes)
    users = np.array([draft.moods.daily_share, 1.0 - draft.moods.daily_share])
    weight = users * chance
    pmf = GapMixture(weight / weight.sum(), chance).pmf(GAP_DAYS)
    counts = tuple(np.round(1e6 * pmf).astype(int).tolist())
    return replace(target, gaps=counts, assumed=(*target.assumed, "gaps"))


def _with_published_visits(draft: Preset, target: LogStatistics) -> Preset:
    """Return the draft with the return classes fitted to the published gaps."""
    mixture = fit_gaps(GapCounts.of_counts(target.gaps))
    first, second = mixture.chance.tolist()
    population = with_assumed_visits(draft.population, float(mixture.users()[0]))
    moods = replace(
        draft.moods, return_classes=(first, second), daily_share=population.daily_share()
    )
    return replace(draft, moods=moods, population=population)
