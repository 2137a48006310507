"""A dsjson log as a Source: batches of decisions with masks and logged distributions.

Candidates are identified by their index in `_multi`; the context's and the candidates' features are
the hashed columns of `replay.dsjson_features`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats
from replay.dsjson import Dangling, DsjsonDecision, Label
from replay.dsjson_features import N_ACTION, N_SHARED, context_features
from replay.dsjson_reader import read_dsjson
from replay.rows import Coverage
from replay.sources import BATCH_ROWS, Batch, Draws

BATCH_CELLS = 131_072
"""Limit of decisions times candidates in a batch, at which its columns take 34 MB."""

_HOUR_MS = 3_600_000

T = TypeVar("T")


class VwState(msgspec.Struct, frozen=True):
    """The model that made a decision, as VW's joiner writes it."""

    m: str = ""


class DsjsonSource:
    """The decisions of a file that were shown and whose outcome is known.

    Left out and counted are decisions never shown (`_skipLearn`; not `seen`), those without a label
    (`censored`), and outcomes without a decision (`dangling`). The member `user`, which our export
    writes, names the user; without it each decision counts as a user of its own (`unnamed`). `eps`
    and `eligible` give the exploration floor; without them there is none.
    """

    reward_version = 0
    reward_range: tuple[float, float] | None = None

    def __init__(self, path: Path) -> None:
        """Take a file; it is read when batches are requested."""
        self.path = path
        self._coverage = Coverage(0, 0, 0)

    @property
    def coverage(self) -> Coverage:
        """Counts of the file's decisions at its last reading."""
        return self._coverage

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions, with one batch in memory; raise as `read_dsjson` does."""
        people = _People()
        rows: list[tuple[DsjsonDecision, Label, int]] = []
        width = 0
        for decision, label in self._labelled():
            code = people.code(_text(decision, "user"))
            if rows and (len(rows) + 1) * max(width, decision.n_actions) > BATCH_CELLS:
                yield _batch(rows, width)
                rows, width = [], 0
            rows.append((decision, label, code))
            width = max(width, decision.n_actions)
            if len(rows) == BATCH_ROWS:
                yield _batch(rows, width)
                rows, width = [], 0
        if rows:
            yield _batch(rows, width)
        self._coverage = msgspec.structs.replace(self._coverage, unnamed=people.n_unnamed)

    def _labelled(self) -> Iterator[tuple[DsjsonDecision, Label]]:
        n, n_seen, n_censored, n_dangling = 0, 0, 0, 0
        for line in read_dsjson(self.path):
            if isinstance(line, Dangling):
                n_dangling += 1
                continue
            n += 1
            n_seen += not line.skip_learn
            if line.label is None:
                n_censored += not line.skip_learn
            elif not line.skip_learn:
                yield line, line.label
        self._coverage = Coverage(n, n_seen, n_censored, dangling=n_dangling)


class _People:
    """Codes of users; unnamed ones are only counted."""

    def __init__(self) -> None:
        self.n_unnamed = 0
        self._named: dict[str, int] = {}

    def code(self, name: str) -> int:
        if name in self._named:
            return self._named[name]
        code = len(self._named) + self.n_unnamed
        if name:
            self._named[name] = code
        else:
            self.n_unnamed += 1
        return code


def _batch(rows: list[tuple[DsjsonDecision, Label, int]], width: int) -> Batch:
    decisions = [decision for decision, _, _ in rows]
    at_ms = np.array([decision.at_ms for decision in decisions], dtype=np.int64)
    mask = np.arange(width) < np.array([[decision.n_actions] for decision in decisions])
    propensity = np.array([decision.propensity for decision in decisions])
    action = np.array([label.action for _, label, _ in rows], dtype=np.int64)
    pmf = _pmfs(decisions, width)
    context, action_context = _features(decisions, width)
    hours = (at_ms // _HOUR_MS % 24).astype(np.str_)
    return Batch(
        user=np.array([code for _, _, code in rows], dtype=np.int64),
        reward=np.array([0.0 - label.cost for _, label, _ in rows]),
        propensity=propensity,
        action=action,
        slot=np.array([_decoded(each, "slot", int, 0) for each in decisions], dtype=np.int64),
        at_ms=at_ms,
        mask=mask,
        row_weight=np.array([decision.row_weight for decision in decisions]),
        policy=np.array([_policy(decision) for decision in decisions]),
        segments={"hour": hours} if at_ms.all() else {},
        pmf=pmf,
        context=context,
        action_context=action_context,
        eps=np.array([_decoded(each, "eps", float, 0.0) for each in decisions]),
        eligible=_eligible(decisions, mask),
        # The floor test needs all draws, and this log has only those of known outcome.
        drawn=Draws(propensity, action, np.zeros_like(mask), pmf),
    )


def _features(decisions: list[DsjsonDecision], width: int) -> tuple[Floats, Floats]:
    context = np.empty((len(decisions), N_SHARED))
    action_context = np.zeros((len(decisions), width, N_ACTION))
    for row, decision in enumerate(decisions):
        context[row], candidates = context_features(decision.context)
        action_context[row, : len(candidates)] = candidates
    return context, action_context


def _pmfs(decisions: list[DsjsonDecision], width: int) -> Floats:
    pmfs = np.full((len(decisions), width), np.nan)
    for row, decision in enumerate(decisions):
        if decision.pmf:
            pmfs[row] = 0.0
            pmfs[row, list(decision.ranking)] = decision.pmf
    return pmfs


def _eligible(decisions: list[DsjsonDecision], mask: Bools) -> Bools:
    """Return the candidates under the floor, (m, width); all where a line names none."""
    eligible = mask.copy()
    for row, decision in enumerate(decisions):
        places = _decoded(decision, "eligible", tuple[int, ...], ())
        if places:
            eligible[row] = False
            eligible[row, list(places)] = True
    return eligible


def _policy(decision: DsjsonDecision) -> str:
    named = _text(decision, "policy")
    if named or "VWState" not in decision.rest:
        return named
    try:
        return msgspec.json.decode(decision.rest["VWState"], type=VwState).m
    except msgspec.ValidationError:
        return ""


def _text(decision: DsjsonDecision, name: str) -> str:
    return _decoded(decision, name, str, "")


def _decoded(decision: DsjsonDecision, name: str, kind: type[T], default: T) -> T:
    """Return a member, or the default if it is missing or of another type."""
    raw = decision.rest.get(name)
    if raw is None:
        return default
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        return default
