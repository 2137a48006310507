"""Targets: policies as distributions over the candidates of a batch's decisions.

A policy of `env.interface` is queried for pages: on our own log with the logged rules, floor and
prefix; an external log's decisions become one-slot pages. Every answer of a target is checked
before use.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from env.interface import Policy, page_pmfs
from env.records import item_key
from env.vocabulary import (
    Bools,
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
from replay.estimators.columns import Columns, RewardPredictions
from replay.evaluate.calibration import CalibrationTest
from replay.join.spill import Spill
from replay.reward_models.batch_models import BatchModel, checked_rewards
from replay.source import Batch, Source

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
    n_folds: int = 0  # of users, each judged by a model without them; 0: one model judges all

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


Oracle = Callable[[Page, Decision], Floats]
"""The true expected reward of each candidate, shape (n,), for one decision of a page."""


MAX_VALUES = 40
"""Most values of a segment that are reported: those with the most decisions."""


@dataclass
class Labels:
    """Codes of a segment's values, in order of appearance."""

    values: dict[str, int] = field(default_factory=dict)

    def codes(self, values: np.ndarray) -> Ints:
        """Return the code of each value, shape (m,)."""
        distinct, inverse = np.unique(values, return_inverse=True)
        codes = [self.values.setdefault(str(v), len(self.values)) for v in distinct]
        return np.array(codes, dtype=np.int64)[inverse]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A replayed log with several targets, as columns on disk while `spill` is open."""

    spill: Spill
    n_pages: int
    policies: tuple[str, ...]
    calibrating: CalibrationTest
    largest_weights: tuple[float, ...]
    labels: dict[str, Labels]
    is_weighted: bool
    has_truth: bool
    has_pages: bool = False

    def page(self) -> Ints:
        """Return the code of each decision's page, shape (n,); for a log with pages."""
        return self.spill.ints("page")

    def session(self) -> Ints:
        """Return the code of each decision's session, shape (n,); for a log with pages."""
        return self.spill.ints("session")

    def slot(self) -> Ints:
        """Return each decision's slot, shape (n,); for a log with pages."""
        return self.spill.ints("slot")

    def columns(self, target: int) -> Columns:
        """Return the columns of the target at this index."""
        return Columns(
            user=self.spill.ints("user"),
            reward=self.spill.floats("reward"),
            propensity=self.spill.floats("propensity"),
            target=self.spill.floats(f"target {target}"),
            row_weight=self.spill.floats("row_weight") if self.is_weighted else None,
        )

    def predictions(self, target: int) -> RewardPredictions:
        """Return the reward model's predictions for the target at this index."""
        return RewardPredictions(self.spill.floats("chosen"), self.spill.floats(f"direct {target}"))

    def truth(self, target: int) -> float | None:
        """Return the true value of the target at this index, or None without an oracle."""
        return float(self.spill.floats(f"truth {target}").mean()) if self.has_truth else None

    def unsupported(self, target: int) -> Floats:
        """Return the target's probability on candidates that the log gave no chance, shape (n,).

        NaN where the log's distribution is unknown.
        """
        return self.spill.floats(f"unsupported {target}")

    def at_ms(self) -> Ints:
        """Return the time of each decision, shape (n,)."""
        return self.spill.ints("at_ms")

    def n_hidden(self, segment: str) -> int:
        """Return the number of a segment's values that `parts` leaves out."""
        return max(len(self.labels[segment].values) - MAX_VALUES, 0)

    def parts(self, segment: str) -> Iterator[tuple[str, Bools]]:
        """Yield up to `MAX_VALUES` values of a segment with their masks, the largest first."""
        labels = self.labels[segment].values
        codes = self.spill.ints(f"segment {segment}")
        names, counts = list(labels), np.bincount(codes, minlength=len(labels))
        for code in np.argsort(-counts, kind="stable")[:MAX_VALUES]:
            yield names[code], codes == code


def replay_targets(
    source: Source,
    targets: Sequence[Target],
    model: BatchModel,
    spill: Spill,
    *,
    oracle: Oracle | None = None,
) -> Replayed:
    """Return the targets' probabilities and predicted rewards at each decision.

    Args:
        targets: each is queried for each batch.
        model: reward model not fitted on the rows it scores.
        spill: empty; it receives the columns.
        oracle: true rewards, for a log with pages.

    Raises:
        ValueError: no decision, an invalid pmf, a target whose code fails, or a reward of the model
            or the oracle that is not finite.
    """
    n = n_pages = 0
    policies, calibrating = set[str](), CalibrationTest()
    largest = [0.0] * len(targets)
    labels: dict[str, Labels] = {}
    wholes = _Wholes()
    for batch in source.batches():
        wholes.append(batch, spill)
        n, n_pages = n + len(batch), n_pages + (len(batch.pages) or len(batch))
        calibrating.add(batch.draws)
        if batch.policy is not None:
            policies.update(map(str, np.unique(batch.policy)))
        _append_logged(batch, spill, labels)
        predicted = model.predict(batch)
        spill.append("chosen", batch.of_chosen(predicted))
        truth = None if oracle is None else _true(oracle, batch)
        for place, target in enumerate(targets):
            pmfs = _asked(target, batch)
            unsupported, largest_weight = _support(pmfs, batch.pmf)
            largest[place] = max(largest[place], largest_weight)
            spill.append(f"unsupported {place}", unsupported)
            spill.append(f"target {place}", batch.of_chosen(pmfs))
            spill.append(f"direct {place}", np.einsum("mk,mk->m", pmfs, predicted))
            if truth is not None:
                spill.append(f"truth {place}", np.einsum("mk,mk->m", pmfs, truth))
    if not n:
        raise ValueError("an evaluation needs decisions, got none")
    return Replayed(
        spill=spill,
        n_pages=n_pages,
        policies=tuple(sorted(policies)),
        calibrating=calibrating,
        largest_weights=tuple(largest),
        labels=labels,
        is_weighted="row_weight" in spill,
        has_truth=oracle is not None,
        has_pages=wholes.n_pages > 0,
    )


class _Wholes:
    """Numbers the pages and sessions of a log in order of appearance."""

    def __init__(self) -> None:
        self.n_pages = 0
        self._sessions: dict[tuple[int, str], int] = {}

    def append(self, batch: Batch, spill: Spill) -> None:
        """Append the page, session and slot of each decision, if the log has pages."""
        if not batch.pages:
            return
        page, session = np.zeros((2, len(batch)), dtype=np.int64)
        for each, rows in batch.pages:
            key = int(batch.user[rows[0]]), each.context.session
            page[rows] = self.n_pages
            session[rows] = self._sessions.setdefault(key, len(self._sessions))
            self.n_pages += 1
        for name, column in (("page", page), ("session", session), ("slot", batch.slot)):
            spill.append(name, column)


def _asked(target: Target, batch: Batch) -> Floats:
    """Return a target's distributions, (m, k); its code may be external and may fail."""
    with external_policy_code(target.name):
        return checked_pmfs(target, batch)


@contextmanager
def external_policy_code(name: str) -> Iterator[None]:
    """Turn any error in a policy's code into a ValueError that names the policy."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name}: expected probabilities, its code raised {type(error).__name__}: {error}"
        ) from error


def _support(target: Floats, pmf: Floats | None) -> tuple[Floats, float]:
    """Return the unsupported probability, (m,), and the largest weight elsewhere.

    Decisions with an unknown logged distribution give NaN and no weight.
    """
    if pmf is None:
        return np.full(len(target), np.nan), 0.0
    shown = pmf > 0.0
    known: Bools = np.asarray(np.isfinite(pmf).all(axis=1))
    unsupported = np.where(known, np.where(shown, 0.0, target).sum(axis=1), np.nan)
    shown &= known[:, np.newaxis]
    weights = target[shown] / pmf[shown]
    return unsupported, float(weights.max(initial=0.0))


def _append_logged(batch: Batch, spill: Spill, labels: dict[str, Labels]) -> None:
    for name in ("user", "reward", "propensity", "at_ms"):
        spill.append(name, getattr(batch, name))
    if batch.row_weight is not None:
        spill.append("row_weight", batch.row_weight)
    for name, values in batch.segments.items():
        spill.append(f"segment {name}", labels.setdefault(name, Labels()).codes(values))


def _true(oracle: Oracle, batch: Batch) -> Floats:
    truth = np.zeros(batch.mask.shape)
    for page, rows in batch.pages:
        row_of = dict(zip(batch.slot[rows].tolist(), rows.tolist(), strict=True))
        for decision in page.decisions:
            if decision.slot in row_of:
                rewards = checked_rewards(oracle(page, decision), page, "true")
                truth[row_of[decision.slot], : len(rewards)] = rewards
    return truth
