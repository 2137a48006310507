"""Do intervals of whole pages hold the truth? 5 slots, a cascade, values known exactly.

Logs of `tests.studies.evaluation.worlds`, 10 pages a user, in 4 settings: 1,000 or 4,000 pages, and
a target near to the logging policy or far from it (E[w^2] of a page about 2 and 4). Cascade-DR
takes its Q from means by scene, slot and item of other users' pages.

Independent IPS and the pseudo-inverse stand beside the others though the world breaks what they
assume: their rows show what that costs, much or little. `in_band` counts the cells of the others.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints
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
from tests.studies.evaluation.coverage import Covered, count_in_band, tally
from tests.studies.evaluation.worlds import (
    N_ITEMS,
    N_SCENES,
    N_SLOTS,
    ORDERS,
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

APPLY = (
    "joint ips",
    "joint snips",
    "reward-interaction ips",
    "reward-interaction snips",
    "cascade dr",
)
"""Estimators whose assumptions hold in this world."""


class PagesResult(msgspec.Struct, frozen=True):
    """Coverage at 95% nominal.

    Attributes:
        cells: one a setting and estimator.
        in_band: how many cells of the estimators that apply cover in 91 to 99%.
        of: how many cells these are.
    """

    n_slots: int
    n_runs: int
    seed: int
    cells: tuple[Covered, ...]
    in_band: int
    of: int


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
    return PagesResult(N_SLOTS, n_runs, seed, tuple(cells), in_band, of)


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
