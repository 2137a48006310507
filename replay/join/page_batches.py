"""Batches from pages of our own log: decisions as columns, candidates as matrices.

All draws of a page are laid out first, seen or not, with each slot's remaining candidates; the rows
that can be evaluated are then selected from them. Several loggers of one time are weighed as their
mixture: `docs/decisions/balanced-weights.md`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from env.columns.schema import NEW_COHORT, index_of
from env.interface import Policy, page_pmfs
from env.records import PageRecord
from env.vocabulary import Bools, Floats, Ints, Page
from replay.source import BATCH_ROWS, Batch, Draws


class Presumed(NamedTuple):
    """A policy that drew a page if it gives the propensities that the page logged."""

    policy: Policy


Behaviour = Callable[[PageRecord], Policy | Presumed | None]
"""Finds the policy that drew a page; None if it no longer exists."""

MAX_ERROR = 1e-6
"""Relative error of a logged propensity up to which a presumed policy is the one that drew."""


class Logger(NamedTuple):
    """One of several policies that served at the time of a page."""

    share: float  # of the users, above 0; only ratios count
    policy: Policy


Loggers = Callable[[PageRecord, bool], Sequence[Logger]]
"""Finds all policies that served when a page was drawn, in the log's order, given whether its own
is known; fewer than 2: its own alone."""

MAX_DRAWS = 4 * BATCH_ROWS
"""Draws after which a batch with at least one row is yielded, even if it is small."""

MAX_ROWLESS = 16 * BATCH_ROWS
"""Draws held while no row arrives; beyond it, only pages with rows are kept."""

NEW = index_of(NEW_COHORT)


class PageRows(NamedTuple):
    """A page with its rows, which are its decisions that can be evaluated."""

    record: PageRecord
    page: Page
    slot: Ints  # (r,) ascending; none, where it is there for its draws only
    user: int
    reward: Floats  # (r,)
    cohort: str = ""


def page_batches(
    pages: Iterable[PageRows],
    behaviour: Behaviour | None = None,
    n_rows: int = BATCH_ROWS,
    loggers: Loggers | None = None,
) -> Iterator[Batch]:
    """Yield pages in batches of at least `n_rows` rows, if most draws are rows.

    Every batch has a row: draws of pages without rows join the rows after them, or, at the end,
    those before. The last batch may be smaller.

    Args:
        pages: with their rows.
        behaviour: called for each page; None: the logging policies are unknown.
        n_rows: at least 1.
        loggers: called for each page; with several, propensity and pmf are those of the mixture
            that they were (balanced weights). The draws keep those of the page's own policy, which
            test the propensities. None: a page's own policy alone.
    """
    held: list[PageRows] = []
    n_held = n_draws = 0
    for page in pages:
        if len(page.slot) and n_held and (n_held >= n_rows or n_draws >= MAX_DRAWS):
            yield _batch(held, behaviour, loggers)
            held, n_held, n_draws = [], 0, 0
        if len(page.slot) or n_draws < MAX_ROWLESS:
            held.append(page)
            n_held += len(page.slot)
            n_draws += len(page.page.decisions)
    if n_held:
        yield _batch(held, behaviour, loggers)


def _batch(pages: list[PageRows], behaviour: Behaviour | None, loggers: Loggers | None) -> Batch:
    drawn = _lay_out(pages, behaviour)
    balanced = drawn if loggers is None else _balance(pages, drawn, loggers)
    rows = np.concatenate(
        [_places(page, start) for page, start in zip(pages, drawn.start, strict=True)]
    )
    counts = [len(page.slot) for page in pages]
    ends = np.cumsum(counts)
    records = [page.record for page in pages]

    def each(values: list[str]) -> np.ndarray:
        return np.repeat(np.array(values, dtype=np.str_), counts)

    slot = np.concatenate([page.slot for page in pages])
    return Batch(
        user=np.repeat(np.array([page.user for page in pages], dtype=np.int64), counts),
        reward=np.concatenate([page.reward for page in pages]),
        propensity=balanced.propensity[rows],
        action=drawn.action[rows],
        slot=slot,
        at_ms=np.repeat(np.array([r.at_ms for r in records], dtype=np.int64), counts),
        mask=drawn.mask[rows],
        arm=each([r.arm for r in records]),
        policy=each([r.policy for r in records]),
        segments={
            "country": each([r.scene.country or "unknown" for r in records]),
            "cohort": each([page.cohort or "unknown" for page in pages]),
            "new users": each(["new" if _is_new(page.page) else "known" for page in pages]),
            "slot": slot.astype(np.str_),
            "hour": each([f"{r.scene.hour:02d}" for r in records]),
        },
        pmf=None if balanced.pmf is None else balanced.pmf[rows],
        pages=[
            (page.page, np.arange(end - n, end))
            for page, n, end in zip(pages, counts, ends.tolist(), strict=True)
            if n
        ],
        drawn=Draws(drawn.propensity, drawn.action, drawn.eligible, drawn.pmf),
    )


class _Drawn(NamedTuple):
    start: list[int]  # of each page, in the columns below
    propensity: Floats
    action: Ints
    mask: Bools
    eligible: Bools
    pmf: Floats | None


def _lay_out(pages: list[PageRows], behaviour: Behaviour | None) -> _Drawn:
    decisions = [decision for page in pages for decision in page.page.decisions]
    shape = len(decisions), max(len(page.page.context) for page in pages)
    mask, eligible = np.zeros((2, *shape), dtype=np.bool_)
    pmf = None if behaviour is None else np.full(shape, np.nan)
    start, at = [], 0
    for page in pages:
        start.append(at)
        n = len(page.page.context)
        _lay_out_masks(page.page, mask[at:, :n], eligible[at:, :n])
        found = None if behaviour is None else behaviour(page.record)
        if pmf is not None:
            for row, its in enumerate(drawn_from(page.page, found), start=at):
                pmf[row] = 0.0
                pmf[row, :n] = its
        at += len(page.page.decisions)
    propensity = np.array([d.propensity for d in decisions])
    action = np.array([d.action for d in decisions], dtype=np.int64)
    return _Drawn(start, propensity, action, mask, eligible, pmf)


def drawn_from(page: Page, found: Policy | Presumed | None) -> list[Floats]:
    """Return the pmf that each decision of a page was drawn from, (n,); nothing if it is unknown.

    Args:
        page: with its logged rules, floor and prefix.
        found: as a `Behaviour` gives it.
    """
    if found is None:
        return []
    policy = found.policy if isinstance(found, Presumed) else found
    pairs = list(page_pmfs(page, policy))
    if isinstance(found, Presumed):
        for decision, pmf in pairs:
            if abs(pmf[decision.action] - decision.propensity) > MAX_ERROR * decision.propensity:
                return []
    return [pmf for _, pmf in pairs]


def _balance(pages: list[PageRows], drawn: _Drawn, loggers: Loggers) -> _Drawn:
    """Return the draws with the propensities of the mixture of all policies that served then."""
    propensity = drawn.propensity.copy()
    pmf = None if drawn.pmf is None else drawn.pmf.copy()
    for page, start in zip(pages, drawn.start, strict=True):
        is_known = drawn.pmf is not None and bool(np.isfinite(drawn.pmf[start]).all())
        served = loggers(page.record, is_known)
        if len(served) < 2:
            continue
        mixed = mixture_pmfs(page.page, served)
        rows = slice(start, start + len(mixed))
        chosen = mixed[np.arange(len(mixed)), drawn.action[rows]]
        propensity[rows] = np.minimum(chosen, 1.0)  # a sum of shares may be off by rounding
        if pmf is not None:
            pmf[rows] = 0.0
            pmf[rows, : mixed.shape[1]] = mixed
    return drawn._replace(propensity=propensity, pmf=pmf)


def mixture_pmfs(page: Page, loggers: Sequence[Logger]) -> Floats:
    """Return the pmf of each decision under the mixture of several loggers, (m, n).

    Who drew the page is unknown to a mixture: at each slot every logger counts by its share of the
    users times the probability that it would have drawn the cards before.

    Args:
        page: with its logged rules, floor and prefix.
        loggers: at least one; one of them drew the page.
    """
    belief = np.array([logger.share for logger in loggers])
    belief = belief / belief.sum()
    mixed = []
    for each in zip(*(page_pmfs(page, logger.policy) for logger in loggers), strict=True):
        pmfs = np.array([pmf for _, pmf in each])
        pmf = belief @ pmfs
        mixed.append(pmf)
        action = each[0][0].action
        belief = belief * pmfs[:, action] / pmf[action]
    return np.array(mixed)


def _lay_out_masks(page: Page, mask: Bools, eligible: Bools) -> None:
    """Write each decision's available candidates, and those under its floor if there is one."""
    left = np.ones(len(page.context), dtype=np.bool_)
    for row, decision in enumerate(page.decisions):
        rule = page.slots[decision.slot]
        mask[row] = rule.mask & left
        if page.eps > 0.0:
            floor = mask[row] & rule.eligible
            eligible[row] = floor if floor.any() else mask[row]
        left[decision.action] = False


def _places(page: PageRows, start: int) -> Ints:
    place = {decision.slot: start + i for i, decision in enumerate(page.page.decisions)}
    return np.array([place[slot] for slot in page.slot.tolist()], dtype=np.int64)


def _is_new(page: Page) -> bool:
    shared = page.context.features.shared
    return len(shared) > NEW and bool(shared[NEW] > 0.5)
