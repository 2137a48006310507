"""Whether a page was drawn as its log line says: exact checks, each with a name.

`audit_page` holds a page to its own rules and to the policy and seed that it claims; no check
relies on another. What only many pages show, such as a seed that is used twice, is for
`env.pages.verify_many`.

Rejected: a tolerance that float32 would pass (1e-6 relative is the size of the very mistake that
is looked for).
"""

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from env.interface import Policy, page_pmfs, redraw
from env.vocabulary import Bools, Decision, DecisionId, Floats, Page, decision_id

RELATIVE_TOLERANCE = 1e-12

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
