"""Ten small wrong ways to draw and log a page, each a mistake that a user has made.

A mutant takes what `env.interface.fill_page` takes and returns a page that looks right. The
project's own checks (`env.pages.verify`) have to catch every one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from env.interface import Policy, draw, fill_page, slot_pmf, slot_uniform
from env.vocabulary import Bools, Context, Decision, Floats, Page, SlotRule, decision_id

Fill = Callable[[Context, Policy, Sequence[SlotRule], float, int], Page]
Pmf = Callable[[Policy, Floats, SlotRule, Bools, float], Floats]


def true_fill(
    context: Context,
    policy: Policy,
    slots: Sequence[SlotRule],
    eps: float,
    seed: int,
    *,
    drawn_from: Pmf = slot_pmf,
    logged: Pmf | None = None,
    uniform: Callable[[int, int], float] = slot_uniform,
) -> Page:
    """Fill a page as it should be, but for the parts that a mutant exchanges."""
    scores = policy.score(context)
    left = np.ones(len(context), dtype=np.bool_)
    decisions = []
    for slot, rule in enumerate(slots):
        if not (rule.mask & left).any():
            continue
        pmf = drawn_from(policy, scores, rule, left, eps)
        action = draw(pmf, uniform(seed, slot))
        written = logged(policy, scores, rule, left, eps) if logged else pmf
        left[action] = False
        decisions.append(decision(context, policy, slot, action, float(written[action])))
    return Page(context, tuple(slots), tuple(decisions), eps, policy.explorer)


def decision(context: Context, policy: Policy, slot: int, action: int, p: float) -> Decision:
    name = decision_id(context.page_id, slot)
    return Decision(name, slot, action, context.candidates[action], p, policy.name)


def changed(page: Page, change: Callable[[Decision], Decision]) -> Page:
    return replace(page, decisions=tuple(change(d) for d in page.decisions))


def forgotten_floor(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """The pmf is never mixed with the floor."""

    def explored(p: Policy, scores: Floats, rule: SlotRule, left: Bools, _: float) -> Floats:
        return p.explore(scores, rule.mask & left)

    return true_fill(context, policy, slots, eps, seed, drawn_from=explored)


def filter_after_draw(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """Drawn from everything; what the rule does not allow is taken off the page afterwards."""
    everything = np.ones(len(context), dtype=np.bool_)
    page = fill_page(context, policy, [SlotRule(everything, everything)] * len(slots), eps, seed)
    kept = tuple(d for d in page.decisions if slots[d.slot].mask[d.action])
    return replace(page, slots=tuple(slots), decisions=kept)


def logged_before_floor(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """Drawn with the floor, logged without it."""

    def explored(p: Policy, scores: Floats, rule: SlotRule, left: Bools, _: float) -> Floats:
        return p.explore(scores, rule.mask & left)

    return true_fill(context, policy, slots, eps, seed, logged=explored)


def wrong_prefix(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """Each propensity is of the slot's rule on the empty page, as if nothing were taken."""

    def unconditional(p: Policy, scores: Floats, rule: SlotRule, left: Bools, e: float) -> Floats:
        return slot_pmf(p, scores, rule, np.ones_like(left), e)

    return true_fill(context, policy, slots, eps, seed, logged=unconditional)


def float32_renormalised(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """The pmf is narrowed to float32 and made to sum to 1 again."""

    def narrowed(p: Policy, scores: Floats, rule: SlotRule, left: Bools, e: float) -> Floats:
        pmf = slot_pmf(p, scores, rule, left, e).astype(np.float32)
        return np.asarray(pmf / pmf.sum(), dtype=np.float64)

    return true_fill(context, policy, slots, eps, seed, drawn_from=narrowed)


def stale_version(before: Policy) -> Fill:
    """The replica still scores with the version before, and signs with the new one's name."""

    def fill(
        context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
    ) -> Page:
        page = fill_page(context, before, slots, eps, seed)
        return changed(page, lambda d: msgspec.structs.replace(d, policy=policy.name))

    return fill


def off_by_one(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """The action is written down counted from 1."""

    def shift(d: Decision) -> Decision:
        action = (d.action + 1) % len(context)
        return decision(context, policy, d.slot, action, d.propensity)

    return changed(fill_page(context, policy, slots, eps, seed), shift)


def reused_seed(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """One uniform number draws every slot of the page."""

    def same(seed: int, _: int) -> float:
        return slot_uniform(seed, 0)

    return true_fill(context, policy, slots, eps, seed, uniform=same)


def ignored_mask(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """The slot's rule is logged and not applied."""

    def unmasked(p: Policy, scores: Floats, _: SlotRule, left: Bools, e: float) -> Floats:
        everything = np.ones_like(left)
        return slot_pmf(p, scores, SlotRule(everything, everything), left, e)

    return true_fill(context, policy, slots, eps, seed, drawn_from=unmasked)


def rounded_propensity(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """Six digits after the point looked like enough."""
    page = fill_page(context, policy, slots, eps, seed)
    return changed(page, lambda d: msgspec.structs.replace(d, propensity=round(d.propensity, 6)))
