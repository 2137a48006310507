"""Protocols of policies, logs and reward models, and the one function that draws pages.

`fill_page` is the only code that samples an action or writes a propensity. For each slot, given the
slots before it,

    p(i | prefix) = (1 - eps) * explore(scores, left)_i + eps * nu(i)

with `left` the slot's mask without earlier picks and `nu` uniform over its eligible candidates
still left. The product over the slots is the page's exact propensity. Rejected alternatives:
`docs/decisions/page-draws.md`.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from env.records import FeedbackRecord, Kind, LogLine, PageRecord, Record
from env.vocabulary import (
    Bools,
    Context,
    Correction,
    Decision,
    Floats,
    Interaction,
    Page,
    PageId,
    SlotRule,
    decision_id,
)

PMF_TOLERANCE = 1e-9


class Policy(Protocol):
    """Scores candidates once a page and turns scores into a pmf anew for each slot.

    Both methods are pure: same arguments, same result, to the last bit on one machine.
    """

    @property
    def name(self) -> str:
        """`name@version`, as it stands in a Decision."""
        ...

    @property
    def explorer(self) -> dict[str, object]:
        """The explorer's arguments, as they are logged with the page."""
        ...

    def score(self, context: Context) -> Floats:
        """Return one finite score a candidate, shape (n,); higher is better."""
        ...

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        """Return a pmf of shape (n,) that is 0 off the mask; the mask holds at least one."""
        ...


class Learner(Policy, Protocol):
    """A Policy that also learns, by a deterministic fold of the interactions."""

    def learn(self, interactions: Sequence[Interaction]) -> None:
        """Update the model by these interactions, in this order."""
        ...


class KeptLearner(Learner, Protocol):
    """A Learner whose state can be kept in a snapshot and loaded from it."""

    def dumps(self) -> bytes:
        """Return all that was learned; equal states give equal bytes."""
        ...

    def loads(self, state: bytes) -> None:
        """Replace all that was learned by a state that `dumps` returned."""
        ...


@runtime_checkable
class CorrectingLearner(Protocol):
    """A Learner that also learns from late feedback on what it has learned from."""

    def correct(self, corrections: Sequence[Correction]) -> None:
        """Update the model by the difference that each makes, in this order."""
        ...


class RewardModel(Protocol):
    """Predicts the reward of every candidate; fitted on interactions it does not score."""

    def fit(self, interactions: Sequence[Interaction]) -> None:
        """Fit on these interactions, from scratch."""
        ...

    def predict(self, context: Context) -> Floats:
        """Return the expected reward of each candidate, shape (n,)."""
        ...


class EventLog(Protocol):
    """An append-only, idempotent sequence of records, from which all state is derived.

    It may be kept in several shards, each in order. The order of all lines is then fixed when they
    are first read, so every later read returns the same order.
    """

    def append(self, records: Sequence[Record], *, durable: bool) -> Sequence[bool]:
        """Append records; return for each whether it was new.

        Returns after the records are committed; with `durable`, after they are on disk.
        """
        ...

    def read(
        self, after: int = 0, limit: int | None = None, kinds: Collection[Kind] | None = None
    ) -> Iterator[LogLine]:
        """Yield up to `limit` lines after offset `after`, of these kinds, in the log's order.

        None means no limit, and all kinds.
        """
        ...

    def last_offset(self) -> int:
        """Return the offset of the last line; 0 while the log is empty."""
        ...

    def count(self) -> int:
        """Return the number of lines."""
        ...

    def shard_offsets(self, offset: int) -> tuple[int, ...]:
        """Return each shard's offset once all lines up to `offset` are read; they sum to it."""
        ...


class PageHistory(NamedTuple):
    """A page and the events about it, up to a moment of the log."""

    page: PageRecord
    events: tuple[FeedbackRecord, ...]  # behind the page, in the log's order


class Past(Protocol):
    """Finds in the log what late feedback is about, so that no memory needs to hold it."""

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        """Return the page of a logged event and the events about it before this one.

        None where the page does not stand before the event in the log.
        """
        ...


def page_seed(key: bytes, page_id: PageId) -> int:
    """Return the 64-bit seed of a page's draws: a keyed hash of its id.

    `key` is the installation's secret, at most 64 bytes: its holder can repeat a draw, and nobody
    else can foresee one.
    """
    digest = hashlib.blake2b(page_id.encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "little")


def slot_uniform(seed: int, slot: int) -> float:
    """Return the uniform number in [0, 1) that draws this slot: 53 bits of a hash of both.

    >>> slot_uniform(1, 0) == slot_uniform(1, 0) != slot_uniform(1, 1)
    True
    """
    message = seed.to_bytes(8, "little") + slot.to_bytes(4, "little")
    digest = hashlib.blake2b(message, digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def slot_pmf(policy: Policy, scores: Floats, rule: SlotRule, left: Bools, eps: float) -> Floats:
    """Return the exact pmf, shape (n,), that a slot is drawn from; 0 off `rule.mask & left`.

    Args:
        policy: its `explore` is mixed with the floor.
        scores: the policy's scores of the page, shape (n,).
        rule: the slot's rule.
        left: shape (n,), candidates that earlier slots have not taken.
        eps: the floor, in [0, 1].

    Raises:
        ValueError: the policy's pmf has another shape or dtype, a value that is not finite or
            negative, mass off the mask, or a sum other than 1.
    """
    return _mixed_pmf(policy, scores, rule, rule.mask & left, eps)


def _mixed_pmf(policy: Policy, scores: Floats, rule: SlotRule, mask: Bools, eps: float) -> Floats:
    pmf = _checked_pmf(policy, policy.explore(scores, mask), mask)
    floor = rule.eligible & mask
    n_floor = np.count_nonzero(floor)
    if not n_floor:
        floor, n_floor = mask, np.count_nonzero(mask)
    return (1.0 - eps) * pmf + floor * (eps * (1.0 / n_floor))


def draw(pmf: Floats, uniform: float) -> int:
    """Return the action that a uniform number in [0, 1) draws by the inverse CDF.

    >>> [draw(np.array([0.25, 0.0, 0.75]), u) for u in (0.0, 0.24, 0.25, 0.99)]
    [0, 0, 2, 2]
    """
    cdf = np.add.accumulate(pmf, dtype=np.float64)
    action = int(cdf.searchsorted(uniform * cdf[-1], side="right"))
    if action < len(pmf) and pmf[action] > 0.0:
        return action
    return int(np.flatnonzero(pmf)[-1])  # rounding took the draw past the end


def fill_page(
    context: Context, policy: Policy, slots: Sequence[SlotRule], eps: float, seed: int
) -> Page:
    """Draw a page: score once, then for each slot explore the candidates left, mix and draw.

    A slot for which nothing is left stays off the page; the others keep their numbers. Each
    Decision carries its exact propensity.

    Args:
        context: with n candidates.
        policy: provides scores and pmf.
        slots: one rule a slot, masks of shape (n,).
        eps: the floor, in [0, 1].
        seed: of this page, see `page_seed`.

    Raises:
        ValueError: eps out of range, a rule of another length, a score that is not finite or an
            invalid pmf.
    """
    if not 0.0 <= eps <= 1.0:
        raise ValueError(f"eps must be in [0, 1], got {eps}")
    n = len(context)
    _check_rules(slots, n)
    scores = _checked_scores(policy, policy.score(context), n)
    decisions, name = [], policy.name
    left = np.ones(n, dtype=np.bool_)
    for slot, rule in enumerate(slots):
        mask = rule.mask & left
        if not np.count_nonzero(mask):
            continue
        pmf = _mixed_pmf(policy, scores, rule, mask, eps)
        action = draw(pmf, slot_uniform(seed, slot))
        left[action] = False
        decisions.append(
            Decision(
                decision_id=decision_id(context.page_id, slot),
                slot=slot,
                action=action,
                item_id=context.candidates[action],
                propensity=min(float(pmf[action]), 1.0),  # a sum may be off by PMF_TOLERANCE
                policy=name,
            )
        )
    return Page(context, tuple(slots), tuple(decisions), eps, policy.explorer)


def page_pmfs(page: Page, policy: Policy) -> Iterator[tuple[Decision, Floats]]:
    """Yield each decision with the distribution that `policy` would have drawn it from.

    The logged slot rules, floor and prefix apply; `policy` may be the page's own, whose propensity
    must come back, or another one (off-policy evaluation).
    """
    scores = _checked_scores(policy, policy.score(page.context), len(page.context))
    left = np.ones(len(page.context), dtype=np.bool_)
    for decision in page.decisions:
        yield decision, slot_pmf(policy, scores, page.slots[decision.slot], left, page.eps)
        left[decision.action] = False


def redraw(page: Page, policy: Policy, seed: int) -> tuple[Decision, ...]:
    """Return the decisions that the page's own policy and seed draw, from the log alone."""
    return fill_page(page.context, policy, page.slots, page.eps, seed).decisions


def _check_rules(slots: Sequence[SlotRule], n: int) -> None:
    for slot, rule in enumerate(slots):
        if slot and rule is slots[slot - 1]:
            continue
        if rule.mask.shape != (n,) or rule.eligible.shape != (n,):
            raise ValueError(
                f"slot {slot} ({rule.name}): expected mask and eligible of shape ({n},), "
                f"got {rule.mask.shape} and {rule.eligible.shape}"
            )


def _checked_scores(policy: Policy, scores: Floats, n: int) -> Floats:
    if scores.shape != (n,) or not np.isfinite(scores).all():
        raise ValueError(f"{policy.name}: expected {n} finite scores, got {scores!r}")
    return scores


def _checked_pmf(policy: Policy, pmf: Floats, mask: Bools) -> Floats:
    if pmf.shape != mask.shape or pmf.dtype != np.float64:
        raise ValueError(
            f"{policy.name}: expected a float64 pmf of shape {mask.shape}, "
            f"got {pmf.dtype} of shape {pmf.shape}"
        )
    total = float(np.add.reduce(pmf))
    if not abs(total - 1.0) <= PMF_TOLERANCE:
        raise ValueError(f"{policy.name}: expected a pmf that sums to 1, got {total!r}")
    least = float(pmf[pmf.argmin()])
    if least < 0.0:
        raise ValueError(f"{policy.name}: expected no negative probability, got {least!r}")
    if np.count_nonzero(pmf[~mask]):
        raise ValueError(f"{policy.name}: expected probability 0 off the mask; was it ignored?")
    return pmf
