"""Targets: policies as distributions over the candidates of a batch's decisions.

A policy of `env.interface` is queried for pages: on our own log with the logged rules, floor and
prefix; an external log's decisions become one-slot pages. Every answer of a target is checked
before use.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from env.interface import Policy, page_pmfs
from env.records import item_key
from env.vocabulary import (
    Context,
    Decision,
    Features,
    Floats,
    Ints,
    ItemId,
    Page,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
    decision_id,
)
from replay.sources import Batch

PMF_TOLERANCE = 1e-6
"""Tolerance of an external pmf's sum, for float32 numbers written in decimal."""


class Target(Protocol):
    """A policy as an evaluation needs it: its distribution at each decision."""

    @property
    def name(self) -> str:
        """Display name, for example `name@version`."""
        ...

    def probabilities(self, batch: Batch) -> Floats:
        """Return the distribution over the candidates, (m, k), 0 off the mask, rows sum to 1.

        Raises:
            ValueError: the distribution is invalid, or the batch lacks data that the policy needs.
        """
        ...


@dataclass(frozen=True, slots=True)
class PolicyTarget:
    """A policy of `env.interface`, under the logged rules, floor and prefix.

    It looks better than it is on the share of the log's decisions that it learned from.
    """

    policy: Policy  # policy to query
    learned_share: float = 0.0  # in [0, 1]

    @property
    def name(self) -> str:
        """The policy's `name@version`."""
        return self.policy.name

    def probabilities(self, batch: Batch) -> Floats:
        """Return the policy's pmf at each decision, (m, k); raise ValueError for an invalid one."""
        pmfs = np.zeros(batch.mask.shape)
        for page, rows in batch.pages or row_pages(batch):
            row_of = dict(zip(batch.slot[rows].tolist(), rows.tolist(), strict=True))
            for decision, pmf in page_pmfs(page, self.policy):
                row = row_of.get(decision.slot)
                if row is not None:
                    pmfs[row, : len(pmf)] = pmf
        return pmfs


def checked_pmfs(target: Target, batch: Batch) -> Floats:
    """Return a target's distributions at a batch after checking them.

    Raises:
        ValueError: the shape is wrong, a probability is negative, not a number or off the mask, or
            a row does not sum to 1; names the target and the row.
    """
    pmfs = target.probabilities(batch)
    if pmfs.shape != batch.mask.shape:
        raise ValueError(
            f"{target.name}: expected probabilities of shape {batch.mask.shape}, got {pmfs.shape}"
        )
    for wrong, expected in (
        (~(pmfs >= 0.0), "probabilities of at least 0"),
        ((pmfs > 0.0) & ~batch.mask, "probability 0 off the mask of candidates"),
        (~(np.abs(pmfs.sum(axis=1, keepdims=True) - 1.0) <= PMF_TOLERANCE), "a sum of 1"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong.any(axis=1)))
            raise ValueError(f"{target.name}: expected {expected}, got {pmfs[row]} in row {row}")
    return pmfs


def row_pages(batch: Batch) -> Iterator[tuple[Page, Ints]]:
    """Yield each decision of an external log as a page of one slot, with its logged floor.

    Context numbers become shared features, candidate numbers action features; a candidate's index
    stands for its item id.
    """
    keys = np.array([item_key(str(i)) for i in range(batch.mask.shape[1])], dtype=np.uint64)
    for row in range(len(batch)):
        yield _row_page(batch, row, keys), np.array([row])


def _row_page(batch: Batch, row: int, keys: npt.NDArray[np.uint64]) -> Page:
    k, slot = batch.mask.shape[1], int(batch.slot[row])
    page_id, user = PageId(f"row{row}"), UserKey(str(batch.user[row]))
    shared = np.zeros(0) if batch.context is None else batch.context[row]
    actions = batch.action_context
    if actions is None:
        actions = np.zeros((k, 0))
    features = Features(
        shared=shared.astype(np.float32),
        actions=(actions if actions.ndim == 2 else actions[row]).astype(np.float32),
        keys=keys,
    )
    scene = Scene(at_ms=int(batch.at_ms[row]))
    ids = tuple(ItemId(str(i)) for i in range(k))
    context = Context(page_id, user, SessionId(""), scene, ids, features)
    action, name = int(batch.action[row]), "" if batch.policy is None else str(batch.policy[row])
    decision = Decision(
        decision_id(page_id, slot), slot, action, ids[action], float(batch.propensity[row]), name
    )
    mask = batch.mask[row]
    rule = SlotRule(mask, mask if batch.eligible is None else batch.eligible[row])
    eps = 0.0 if batch.eps is None else float(batch.eps[row])
    return Page(context, (rule,) * (slot + 1), (decision,), eps, {})
