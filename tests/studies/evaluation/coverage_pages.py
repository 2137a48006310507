"""Do intervals of whole pages hold the truth? 5 slots, a cascade, values known exactly.

Logs of `tests.studies.evaluation.worlds`, 10 pages a user, in 4 settings: 1,000 or 4,000 pages, and
a target near to the logging policy or far from it (E[w^2] of a page about 2 and 4). Cascade-DR
takes its Q from means by scene, slot and item of other users' pages.

Independent IPS and the pseudo-inverse stand beside the others though the world breaks what they
assume: their rows show what that costs, much or little. `in_band` counts the cells of the others.
"""

from collections.abc import Callable, Sequence
from itertools import product

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import snips
from replay.estimators.intervals import Estimate
from replay.estimators.slates import (
    SlatePredictions,
    Slates,
    cascade_dr,
    independent_ips,
    joint_ips,
    joint_snips,
    pseudo_inverse,
    reward_interaction_ips,
    reward_interaction_snips,
)
from replay.evaluate.wholes import WholeValue, whole_value
from tests.studies.evaluation.coverage import Covered, count_in_band, tally
from tests.studies.evaluation.worlds import (
    N_ITEMS,
    N_SCENES,
    N_SLOTS,
    ORDERS,
    STAY,
    PageLog,
    PagePolicy,
    PageWorld,
)

Advance = Callable[[str, int, int], None]
SIZES = (1_000, 4_000)
PAGES_A_PERSON = 10
N_FOLDS = 5
PRIOR_PAGES = 5.0
BAND = (0.91, 0.99)

MAX_BIAS = 0.01
WORLD_PAGES = 4_000
BOREDOMS = (0.0, 0.8, 1.6)
STAYS = {"stay if liked": STAY, "stay alike": (1.5, 1.5)}
TARGETS = {"near": 0.8, "far": 1.6}

APPLY = (
    "joint ips",
    "joint snips",
    "reward-interaction ips",
    "reward-interaction snips",
    "cascade dr",
)
"""Estimators whose assumptions hold in this world."""


class WholeWorld(msgspec.Struct, frozen=True):
    """What `nextswipe evaluate` says of whole pages of a policy, in logs of one world.

    Attributes:
        truth: expected likes of a page, exactly.
        relative_bias: mean error of the page's value, over the truth.
        relative_bias_se: its standard error, from the spread over the logs.
        coverage: share of the logs whose interval holds the truth.
        refused: share of the logs that a gate refuses; they are judged all the same.
        card_bias: likewise of a card's value, times the cards that a logged page shows.
    """

    world: str
    truth: float
    relative_bias: float
    relative_bias_se: float
    coverage: float
    refused: float
    card_bias: float


class PagesResult(msgspec.Struct, frozen=True):
    """Coverage at 95% nominal.

    Attributes:
        cells: one a setting and estimator.
        in_band: how many cells of the estimators that apply cover in 91 to 99%.
        of: how many cells these are.
        worlds: 12 worlds with policies that fill pages.
        worlds_unbiased: those where the relative bias is at most `MAX_BIAS`.
        coverage: share of all their logs whose interval holds the truth.
        coverage_min: of the world with the least.
    """

    n_slots: int
    n_runs: int
    seed: int
    cells: tuple[Covered, ...]
    in_band: int
    of: int
    worlds: tuple[WholeWorld, ...] = ()
    worlds_unbiased: int = 0
    coverage: float = 0.0
    coverage_min: float = 0.0


def run_pages(n_runs: int, *, seed: int, advance: Advance) -> PagesResult:
    """Return how often intervals held the truth in `n_runs` logs of each setting."""
    generator = np.random.default_rng(seed)
    appeal = generator.normal(-0.8, 0.9, size=(N_SCENES, N_ITEMS))
    guess = 0.5 * appeal + generator.normal(0.0, 0.3, size=appeal.shape)
    world, logging = PageWorld.of(appeal), PagePolicy.of(guess)
    targets = {
        "near": PagePolicy.of(guess + 0.8 * appeal),
        "far": PagePolicy.of(guess + 1.6 * appeal),
    }
    cells: list[Covered] = []
    for size in SIZES:
        found: dict[tuple[str, str], list[Estimate]] = {}
        for run in range(n_runs):
            log = world.draw(logging, size // PAGES_A_PERSON, PAGES_A_PERSON, generator)
            for name, target in targets.items():
                for estimate in estimate_pages(log, logging, target):
                    found.setdefault((name, estimate.estimator), []).append(estimate)
            advance(f"{size} pages", run + 1, n_runs)
        cells.extend(
            tally(f"{size} pages, {name}", world.value(targets[name]), estimates)
            for (name, _), estimates in found.items()
        )
    of = sum(cell.estimator in APPLY for cell in cells)
    in_band = count_in_band(cells, APPLY, *BAND)
    worlds = run_worlds(n_runs, generator, advance)
    return PagesResult(
        n_slots=N_SLOTS,
        n_runs=n_runs,
        seed=seed,
        cells=tuple(cells),
        in_band=in_band,
        of=of,
        worlds=worlds,
        worlds_unbiased=sum(abs(world.relative_bias) <= MAX_BIAS for world in worlds),
        coverage=float(np.mean([world.coverage for world in worlds])),
        coverage_min=min(world.coverage for world in worlds),
    )


def run_worlds(
    n_runs: int, generator: np.random.Generator, advance: Advance
) -> tuple[WholeWorld, ...]:
    """Return what evaluations say of whole pages in `n_runs` logs of each of 12 worlds.

    The worlds differ in how much a card takes from a like one below it, in who stays, and in how
    far the policy is from the one that made the log; in each, items appeal anew.
    """
    found: list[WholeWorld] = []
    for boredom, (how, stay), (name, further) in product(BOREDOMS, STAYS.items(), TARGETS.items()):
        appeal = generator.normal(-0.8, 0.9, size=(N_SCENES, N_ITEMS))
        guess = 0.5 * appeal + generator.normal(0.0, 0.3, size=appeal.shape)
        world = PageWorld.of(appeal, boredom, stay)
        logging, target = PagePolicy.of(guess), PagePolicy.of(guess + further * appeal)
        title = f"boredom {boredom}, {how}, {name}"
        values, cards = list[WholeValue](), list[float]()
        for run in range(n_runs):
            log = world.draw(logging, WORLD_PAGES // PAGES_A_PERSON, PAGES_A_PERSON, generator)
            columns, predictions, page, slot = cards_of(log, logging, target)
            values.append(whole_value("page", columns, predictions, page, (slot,), force=True))
            cards.append(snips(columns).value * len(columns) / len(log.user))
            advance(title, run + 1, n_runs)
        found.append(_judged(title, world.value(target), values, cards))
    return tuple(found)


def _judged(
    title: str, truth: float, values: Sequence[WholeValue], cards: Sequence[float]
) -> WholeWorld:
    value, low, high = (
        np.array([getattr(each, name) for each in values]) for name in ("value", "low", "high")
    )
    errors = value / truth - 1.0
    return WholeWorld(
        world=title,
        truth=truth,
        relative_bias=float(errors.mean()),
        relative_bias_se=float(errors.std(ddof=1) / np.sqrt(len(errors))),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        refused=float(np.mean([bool(each.refusals) for each in values])),
        card_bias=float(np.mean(cards) / truth - 1.0),
    )


def cards_of(
    log: PageLog, logging: PagePolicy, target: PagePolicy
) -> tuple[Columns, RewardPredictions, Ints, Ints]:
    """Return the seen cards as an evaluation has them, with their pages and slots.

    Rewards are predicted by shrunk means of other users' cards, by scene and item.
    """
    page, slot = np.nonzero(log.seen)
    user, scene, order = log.user[page], log.scene[page], log.order[page]
    item, reward, fold = ORDERS[order, slot], log.reward[page, slot], user % N_FOLDS
    shape = (N_FOLDS, N_SCENES, N_ITEMS)
    place = np.ravel_multi_index((fold, scene, item), shape)
    n = int(np.prod(shape))
    counts = _of_others(np.bincount(place, minlength=n).reshape(shape))
    sums = _of_others(np.bincount(place, weights=reward, minlength=n).reshape(shape))
    mean = sums.sum() / counts.sum()
    here = ((sums + PRIOR_PAGES * mean) / (counts + PRIOR_PAGES))[fold, scene]  # (n, items)
    columns = Columns(
        user=user,
        reward=reward,
        propensity=logging.chosen[scene, order, slot],
        target=target.chosen[scene, order, slot],
    )
    direct = np.einsum("ni,ni->n", target.conditional[scene, order, slot], here)
    return columns, RewardPredictions(here[np.arange(len(here)), item], direct), page, slot


def estimate_pages(log: PageLog, logging: PagePolicy, target: PagePolicy) -> tuple[Estimate, ...]:
    """Return what every estimator says of a target."""
    slates = Slates(
        user=log.user,
        reward=log.reward,
        propensity=logging.chosen[log.scene, log.order],
        target=target.chosen[log.scene, log.order],
    )
    return (
        joint_ips(slates),
        joint_snips(slates),
        reward_interaction_ips(slates),
        reward_interaction_snips(slates),
        cascade_dr(slates, predict(log, target)),
        independent_ips(slates),
        pseudo_inverse(slates),
    )


def predict(log: PageLog, target: PagePolicy) -> SlatePredictions:
    """Return the rewards from each slot on, by shrunk means of other users' pages."""
    slot = np.arange(N_SLOTS)
    item = ORDERS[log.order]
    fold = log.user % N_FOLDS
    onward = np.cumsum(log.reward[:, ::-1], axis=1)[:, ::-1]
    cell = (log.scene[:, None] * N_SLOTS + slot) * N_ITEMS + item
    shape = (N_FOLDS, N_SCENES, N_SLOTS, N_ITEMS)
    place = (fold[:, None] * int(np.prod(shape[1:])) + cell).ravel()
    counts = _of_others(np.bincount(place, minlength=int(np.prod(shape))).reshape(shape))
    sums = _of_others(
        np.bincount(place, weights=onward.ravel(), minlength=int(np.prod(shape))).reshape(shape)
    )
    by_slot = sums.sum(axis=(1, 3), keepdims=True) / counts.sum(axis=(1, 3), keepdims=True)
    q = (sums + PRIOR_PAGES * by_slot) / (counts + PRIOR_PAGES)
    here = q[fold, log.scene]  # (n, slots, items)
    chosen = np.take_along_axis(here, item[:, :, None], axis=2)[..., 0]
    direct = np.einsum("nji,nji->nj", target.conditional[log.scene, log.order], here)
    return SlatePredictions(chosen, direct)


def _of_others(by_fold: Floats | Ints) -> Floats:
    return np.asarray(by_fold.sum(axis=0) - by_fold, dtype=np.float64)
