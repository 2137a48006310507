"""Whether pages were drawn as their log lines say: exact checks page by page, and of many at once.

`audit_page` holds a page to its own rules and to the policy and seed that it claims; each check
has a name, and none relies on another. `audit_draws` needs no seed: it turns each draw into a
number that is uniform in [0, 1), and independent of all others, if and only if draws follow the
distributions that the page implies. A log's verification runs `audit_page` on every page that it
redraws; `audit_draws` is run by tests only.

Rejected: a tolerance that float32 would pass (1e-6 relative is the size of the very mistake that
is looked for), and comparing counts of items over pages (each page has its own candidates).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np

from env.interface import Policy, page_pmfs, redraw
from env.vocabulary import Bools, Decision, DecisionId, Floats, Page, decision_id

RELATIVE_TOLERANCE = 1e-12
MAX_Z = 5.0
"""Standard errors that chance may explain: about one false alarm in two million audits."""
N_CELLS = 10

Check = Literal[
    "identity",
    "policy",
    "repeat",
    "mask",
    "floor",
    "propensity",
    "draw",
    "fit",
    "weight",
    "independence",
]


class Violation(msgspec.Struct, frozen=True):
    """One thing that is not as it was said to be.

    Attributes:
        check: the name of the check that it fails.
        decision_id: where; empty: in the pages as a whole.
        message: what was expected and what came.
    """

    check: Check
    decision_id: DecisionId
    message: str


def audit_page(page: Page, policy: Policy, seed: int) -> list[Violation]:
    """Return what is wrong with a page, given the policy and the seed that should have drawn it.

    Checks, by name:
        identity: ids, slots and actions name what they should, slots in order.
        policy: the decisions and the explorer's arguments are this policy's.
        repeat: no candidate stands on the page twice.
        mask: each action is one that its slot's rule allows.
        floor: no eligible candidate has a propensity below its share of the floor.
        propensity: it is that of the page's own rules, floor and prefix, to 1e-12 relative.
        draw: the seed draws these actions for these slots, no more and no fewer.

    Args:
        page: as drawn, or as read from a log.
        policy: in the version that the page names.
        seed: of `env.interface.page_seed`.
    """
    broken = [*_check_identity(page)]
    if broken:  # the other checks index by slot and action
        return broken
    return [
        *_check_policy(page, policy),
        *_check_repeat(page),
        *_check_rules(page),
        *_check_propensity(page, policy),
        *_check_draw(page, policy, seed),
    ]


def audit_draws(pages: Sequence[Page], policy: Policy, seed: int = 0) -> list[Violation]:
    """Return how the draws of many pages, all of one policy, depart from their distributions.

    Let F be the distribution function that a slot's pmf implies and a the action drawn; then
    V = F(a - 1) + W p(a), with W an independent uniform, is uniform in [0, 1) given all before
    it (the randomised probability integral transform: Smith, "Diagnostic checks of
    non-standard time series models", Journal of Forecasting 1985), whatever order F takes the
    candidates in. Checks, by name:
        fit: Pearson's chi-square of V over ten cells, with F from the least to the most likely
            candidate: draws that are too bold or too timid are off in one direction.
        independence: the same over ten by ten cells of V in neighbouring slots of a page, and in
            the first slots of neighbouring pages, with F in the order of the candidates, in
            which actions are drawn: a uniform number used twice gives the same V twice.
        weight: the mean of 1 / propensity, as logged, over the number of candidates with a
            positive probability is 1, for the standard error that the pmfs imply.

    Pages must not repeat, and there should be some hundreds of them: each of the hundred cells
    should expect five draws or more, and a pmf near zero makes the weights' normal approximation
    poor.

    Args:
        pages: of this policy, in the order drawn; each passes the checks `identity`, `mask` and
            `repeat` of `audit_page`.
        policy: in the version that the pages name.
        seed: of the auditor's own uniforms W; not of the pages.
    """
    rng = np.random.default_rng(seed)
    uniforms = [_uniforms(page, policy, rng) for page in pages]
    ranked = np.concatenate([v[:, 1] for v in uniforms])
    rows = [v[:, 0] for v in uniforms]
    neighbours = np.concatenate([np.stack([v[:-1], v[1:]], axis=1) for v in rows])
    firsts = np.array([v[0] for v in rows if v.size])
    lagged = np.stack([firsts[:-1], firsts[1:]], axis=1)
    within = ("neighbouring slots", neighbours), ("first slots of neighbouring pages", lagged)
    return [
        *_check_cells("fit", "draws", _cells(ranked), N_CELLS),
        *(
            violation
            for name, pairs in within
            for violation in _check_cells("independence", name, _pair_cells(pairs), N_CELLS**2)
        ),
        *_check_weight(pages, policy),
    ]


def _check_identity(page: Page) -> Iterator[Violation]:
    before = -1
    for d in page.decisions:
        fits = before < d.slot < len(page.slots) and 0 <= d.action < len(page.context)
        if not fits:
            yield _violation("identity", d, f"no such slot or action: {d.slot}, {d.action}")
        elif d.item_id != page.context.candidates[d.action]:
            yield _violation("identity", d, f"action {d.action} is not item {d.item_id}")
        if d.decision_id != decision_id(page.context.page_id, d.slot):
            yield _violation("identity", d, f"expected the id of page and slot {d.slot}")
        before = d.slot


def _check_policy(page: Page, policy: Policy) -> Iterator[Violation]:
    for d in page.decisions:
        if d.policy != policy.name:
            yield _violation("policy", d, f"expected {policy.name}, got {d.policy}")
    if page.explorer != policy.explorer:
        message = f"expected the explorer {policy.explorer}, got {page.explorer}"
        yield Violation("policy", DecisionId(""), message)


def _check_repeat(page: Page) -> Iterator[Violation]:
    shown: set[int] = set()
    for d in page.decisions:
        if d.action in shown:
            yield _violation("repeat", d, f"action {d.action} is on the page already")
        shown.add(d.action)


def _check_rules(page: Page) -> Iterator[Violation]:
    for d, left in _prefixes(page):
        rule = page.slots[d.slot]
        mask = rule.mask & left
        if not rule.mask[d.action]:
            yield _violation("mask", d, f"rule {rule.name} does not allow action {d.action}")
        floor = rule.eligible & mask if (rule.eligible & mask).any() else mask
        least = page.eps / max(int(np.count_nonzero(floor)), 1)
        if floor[d.action] and d.propensity < least * (1.0 - RELATIVE_TOLERANCE):
            yield _violation("floor", d, f"expected at least {least!r}, got {d.propensity!r}")


def _check_propensity(page: Page, policy: Policy) -> Iterator[Violation]:
    for d, pmf in _known_pmfs(page, policy):
        expected = float(pmf[d.action])
        if not abs(d.propensity - expected) <= RELATIVE_TOLERANCE * expected:
            yield _violation("propensity", d, f"expected {expected!r}, got {d.propensity!r}")


def _check_draw(page: Page, policy: Policy, seed: int) -> Iterator[Violation]:
    drawn = {d.slot: d.action for d in redraw(page, policy, seed)}
    shown = {d.slot: d.action for d in page.decisions}
    for slot in sorted(drawn.keys() | shown.keys()):
        if drawn.get(slot) != shown.get(slot):
            where = decision_id(page.context.page_id, slot)
            message = f"the seed draws {drawn.get(slot)}, shown was {shown.get(slot)}"
            yield Violation("draw", where, message)


def _check_weight(pages: Iterable[Page], policy: Policy) -> Iterator[Violation]:
    """The sum over decisions of 1 / p has expectation k, variance sum(1 / p_i) - k^2."""
    off, variance, n = 0.0, 0.0, 0
    for page in pages:
        for d, pmf in page_pmfs(page, policy):
            support = pmf[pmf > 0.0]
            off += 1.0 / d.propensity / len(support) - 1.0
            variance += float(np.sum(1.0 / support)) / len(support) ** 2 - 1.0
            n += 1
    # What is certain, such as a uniform pmf, has no variance: only rounding is allowed there.
    if abs(off) > MAX_Z * np.sqrt(max(variance, 0.0)) + n * 1e-9:
        message = f"expected a mean weight of 1, got {1.0 + off / n} over {n} decisions"
        yield Violation("weight", DecisionId(""), message)


def _check_cells(check: Check, what: str, counts: Floats, n_cells: int) -> Iterator[Violation]:
    """Pearson's chi-square against equal cells, made normal (Wilson and Hilferty, PNAS 1931)."""
    expected = counts.sum() / n_cells
    if expected == 0.0:
        return
    df = n_cells - 1
    ratio = float(np.sum((counts - expected) ** 2) / expected) / df
    z = (np.cbrt(ratio) - (1.0 - 2.0 / (9.0 * df))) / np.sqrt(2.0 / (9.0 * df))
    if z > MAX_Z:
        message = f"{what}: chi-square is {ratio:.2f} times its expectation, {z:.1f} s.e. too much"
        yield Violation(check, DecisionId(""), message)


def _uniforms(page: Page, policy: Policy, rng: np.random.Generator) -> Floats:
    """Return V for each decision of a page, by index and by rank, shape (n_decisions, 2)."""
    values = [
        (_transformed(pmf, d.action, w), _transformed(*_ranked(pmf, d.action), w))
        for (d, pmf), w in zip(
            page_pmfs(page, policy), rng.random(len(page.decisions)), strict=True
        )
    ]
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def _transformed(pmf: Floats, action: int, w: float) -> float:
    return (float(pmf[:action].sum()) + w * float(pmf[action])) / float(pmf.sum())


def _ranked(pmf: Floats, action: int) -> tuple[Floats, int]:
    order = np.argsort(pmf, kind="stable")
    return pmf[order], int(np.flatnonzero(order == action)[0])


def _cells(values: Floats) -> Floats:
    return np.histogram(values, bins=N_CELLS, range=(0.0, 1.0))[0].astype(np.float64)


def _pair_cells(pairs: Floats) -> Floats:
    edges = np.linspace(0.0, 1.0, N_CELLS + 1)
    counts = np.histogram2d(pairs[:, 0], pairs[:, 1], bins=(edges, edges))[0]
    return np.asarray(counts, dtype=np.float64)


def _prefixes(page: Page) -> Iterator[tuple[Decision, Bools]]:
    left = np.ones(len(page.context), dtype=np.bool_)
    for decision in page.decisions:
        yield decision, left.copy()
        left[decision.action] = False


def _known_pmfs(page: Page, policy: Policy) -> Iterator[tuple[Decision, Floats]]:
    """Yield as `page_pmfs`, up to a slot for which nothing is left: that has no distribution."""
    possible = [bool((page.slots[d.slot].mask & left).any()) for d, left in _prefixes(page)]
    n_known = possible.index(False) if False in possible else len(possible)
    known = Page(page.context, page.slots, page.decisions[:n_known], page.eps, page.explorer)
    return page_pmfs(known, policy)


def _violation(check: Check, decision: Decision, message: str) -> Violation:
    return Violation(check, decision.decision_id, message)
