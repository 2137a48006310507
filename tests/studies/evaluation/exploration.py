"""Which exploration lets a log answer questions, and for how much reward.

An hour of a world is served next to greedily. Its pages are then drawn again under each design,
slot by slot, so that all designs meet the same contexts, versions and true rewards. A design is a
softer explorer on a share of the users, of the pages or of the slots, or another explorer
everywhere. Method: `docs/decisions/exploration.md`.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from env.interface import Policy, slot_pmf
from env.vocabulary import Bools, Floats, Page, SlotRule
from policies.bandit.scorer import HybridBanditScorer
from policies.baselines import PopularityPolicy, UniformPolicy
from policies.explorers import SHIPPED, AnyExplorer, Mixed, Softmax, SquareCB, Uniform
from replay.join.our_log import LogSource
from serve.bench.shipped import WITHOUT, Hour, HourSize, exploring, run_hour, shipped_config
from serve.config import Config
from serve.jobs.policies import bandit_version, version_before
from serve.learn.refold import RefoldedVersions
from serve.learn.served import initial_model
from serve.learn.settings import learning_args, open_snapshots, vowpal_args
from serve.store.data_folder import open_data
from serve.store.generations import all_versions
from serve.store.store import StorePast

Advance = Callable[[str, int, int], None]
HALF_HOUR_MS = 1_800_000
SOFT = Mixed((SquareCB(gamma=100.0), Uniform()), (0.5, 0.5))
"""The softer exploration of a share of the users or pages."""


class Design(msgspec.Struct, frozen=True):
    """A share of pages (or users) that `soft` draws; the others are drawn by `explorer`."""

    name: str
    explorer: AnyExplorer
    soft: AnyExplorer | None = None
    share: float = 0.0
    balanced: bool = True  # whether all pages are weighed, or those of the share alone


DESIGNS = (
    Design("none", WITHOUT),
    Design("5% of users, their own weights", WITHOUT, SOFT, 0.05, balanced=False),
    Design("5% of users or pages, balanced weights", WITHOUT, SOFT, 0.05),
    Design("slots: squarecb 10,000", SquareCB(gamma=10_000.0)),
    Design("slots: squarecb 2,000", SquareCB(gamma=2_000.0)),
    Design("slots: squarecb 1,000", SquareCB(gamma=1_000.0)),
    Design("slots: 3% uniform", Mixed((WITHOUT, Uniform()), (0.97, 0.03))),
    Design("slots: 10% softmax .05", Mixed((WITHOUT, Softmax(0.05)), (0.9, 0.1))),
    Design("slots: squarecb 2,000, 3% uniform (shipped)", SHIPPED),
)


class Outcome(msgspec.Struct, frozen=True):
    """What a design gives.

    Attributes:
        cost: relative loss of true reward, on the same pages.
        ess: effective decisions of an hour, by question.
    """

    design: str
    cost: float
    ess: dict[str, float]


class ExplorationResult(msgspec.Struct, frozen=True):
    """The designs in one world."""

    seed: int
    decisions: int
    reward: float  # true, a card, without exploration
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A page with what judges it; the true rewards are those of the user at each seen card."""

    page: Page
    drew: Policy
    true: dict[int, Floats]


def run_exploration(
    size: HourSize,
    *,
    seed: int,
    now_ms: int,
    advance: Advance,
    designs: Sequence[Design] = DESIGNS,
) -> ExplorationResult:
    """Return what the designs give in the world of a seed."""
    with tempfile.TemporaryDirectory(prefix="nextswipe-exploration-") as folder:
        config = exploring(shipped_config(folder), WITHOUT)
        hour = run_hour(config, size, seed, now_ms, advance, "hour")
        pages, targets = _read(config, hour)
    outcomes = list[Outcome]()
    base = None
    for done, design in enumerate(designs):
        worth, ess = _judge(design, pages, targets, np.random.default_rng(seed))
        base = worth if base is None else base
        outcomes.append(Outcome(design.name, 1.0 - worth / base, ess))
        advance("designs", done + 1, len(designs))
    n = sum(len(each.true) for each in pages)
    return ExplorationResult(seed, n, base or 0.0, tuple(outcomes))


def _read(config: Config, hour: Hour) -> tuple[list[_Judged], dict[str, Policy]]:
    with open_data(config) as store:
        versions = RefoldedVersions(
            store.log,
            StorePast(store),
            all_versions(store),
            learning_args(config),
            open_snapshots(config),
        )
        first, pages = initial_model(vowpal_args(config)), list[_Judged]()
        for batch in LogSource(store.log.read, config.reward).batches():
            for page, rows in batch.pages:
                number = bandit_version(page.decisions[0].policy)
                drew = versions.scorer(number) if number else first
                if drew is None:
                    raise RuntimeError(f"expected a published version, got {number}")
                slots = set(batch.slot[rows].tolist())
                true = {d.slot: hour.oracle(page, d) for d in page.decisions if d.slot in slots}
                pages.append(_Judged(page, drew, true))
        found = {name: version_before(store, ago) for name, ago in _AGO.items()}
        learned = {name: versions.scorer(number) for name, number in found.items()}
    targets = {name: policy for name, policy in learned.items() if policy is not None}
    return pages, {"uniform": UniformPolicy(), "popularity": PopularityPolicy(), **targets}


_AGO = {"current": 0, "half an hour ago": HALF_HOUR_MS}


def _judge(
    design: Design, pages: Sequence[_Judged], targets: dict[str, Policy], rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Return the mean true reward of a design, and the effective decisions by question."""
    worth, n = 0.0, 0
    squares = dict.fromkeys(targets, 0.0)
    n_weighed = 0
    served = {name: _as_served(policy, design.explorer) for name, policy in targets.items()}
    for each in pages:
        is_soft = bool(rng.random() < design.share)
        loggers = [_as_served(each.drew, design.explorer)]
        belief = np.ones(1)
        if design.soft is not None:
            loggers.append(_as_served(each.drew, design.soft))
            belief = np.array([1.0 - design.share, design.share])
            if not design.balanced:
                belief = np.array([0.0, 1.0]) if is_soft else np.array([1.0, 0.0])
        counts = design.balanced or is_soft
        page = each.page
        scores = {id(p): p.score(page.context) for p in (*loggers, *served.values())}
        left = np.ones(len(page.context), dtype=np.bool_)
        for decision in page.decisions:
            rule = page.slots[decision.slot]
            if not (rule.mask & left).any():
                continue

            pmf_of = partial(_pmf, page, rule, left, scores)
            pmfs = np.array([pmf_of(logger) for logger in loggers])
            mixed = belief @ pmfs
            drawn_by = pmfs[1] if is_soft else pmfs[0]
            if decision.slot in each.true:
                worth += float(drawn_by @ each.true[decision.slot])
                n += 1
                n_weighed += counts
                for name, target in served.items() if counts else ():
                    wanted = pmf_of(target)
                    some = wanted > 0.0
                    squares[name] += float((wanted[some] ** 2 / mixed[some]).sum())
            action = int(rng.choice(len(drawn_by), p=drawn_by / drawn_by.sum()))
            belief = belief * pmfs[:, action] / mixed[action]
            left[action] = False
    return worth / n, {name: n_weighed**2 / total for name, total in squares.items() if total}


def _pmf(
    page: Page, rule: SlotRule, left: Bools, scores: Mapping[int, Floats], policy: Policy
) -> Floats:
    return slot_pmf(policy, scores[id(policy)], rule, left, page.eps)


def _as_served(policy: Policy, explorer: AnyExplorer) -> Policy:
    return policy.exploring(explorer) if isinstance(policy, HybridBanditScorer) else policy
