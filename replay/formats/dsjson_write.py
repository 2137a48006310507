"""Export of our own log as dsjson: each decision that can be evaluated, with its candidates.

Features keep their names in VW namespaces: `U` for user and scene, `A` for a candidate, `I` for its
id; zeros are left out. A line lists the candidates on the slot's mask that no earlier slot took. VW
skips the members `user`, `slot`, `policy`, `eps` and `eligible`, which our reader uses. Details:
`docs/decisions/dsjson.md`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import msgspec
import numpy as np

from env.columns.schema import DYNAMIC, SHARED, STATIC
from env.vocabulary import Float32s, Floats, Ints, Page, decision_id
from replay.formats.dsjson_line import DanglingOutcome, DsjsonDecision, DsjsonLine, Label
from replay.source import Batch

_encoder = msgspec.json.Encoder()


def write_dsjson(lines: Iterable[DsjsonLine], file: BinaryIO) -> int:
    """Write lines to an open file and return how many."""
    n = 0
    for line in lines:
        file.write(encode_line(line) + b"\n")
        n += 1
    return n


def encode_line(line: DsjsonLine) -> bytes:
    """Return a line as JSON, without its line break."""
    match line:
        case DanglingOutcome():
            return line.line
        case DsjsonDecision():
            return _encoder.encode(_members(line))


def _members(decision: DsjsonDecision) -> dict[str, object]:
    members: dict[str, object] = {}
    if decision.label is not None:
        members |= {
            "_label_cost": decision.label.cost,
            "_label_probability": decision.label.probability,
            "_label_Action": decision.label.action + 1,
            "_labelIndex": decision.label.action,
        }
    if decision.skip_learn:
        members["_skipLearn"] = True
    if decision.timestamp:
        members["Timestamp"] = decision.timestamp
    if decision.decision_id:
        members["EventId"] = decision.decision_id
    members["a"] = [action + 1 for action in decision.ranking]
    members["c"] = msgspec.Raw(decision.context)
    if decision.pmf:
        members["p"] = decision.pmf
    if decision.pdrop:
        members["pdrop"] = decision.pdrop
    return members | {name: msgspec.Raw(value) for name, value in decision.rest.items()}


_ACTION = STATIC + DYNAMIC
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def page_decisions(batch: Batch) -> Iterator[DsjsonDecision]:
    """Yield the decisions of our own log's batch; raise ValueError for other pages or features."""
    if not batch.pages:
        raise ValueError("expected decisions with their pages, got those of another system's log")
    for page, rows in batch.pages:
        shared = _named(SHARED, page.context.features.shared)
        candidates = [
            _encoder.encode({"_tag": item_id, "A": _named(_ACTION, row), "I": {"id": item_id}})
            for item_id, row in zip(
                page.context.candidates, page.context.features.actions, strict=True
            )
        ]
        for row in rows.tolist():
            yield _decision(batch, page, row, _encoder.encode(shared), candidates)


def _decision(
    batch: Batch, page: Page, row: int, shared: bytes, candidates: list[bytes]
) -> DsjsonDecision:
    left = np.flatnonzero(batch.mask[row])
    action = int(np.searchsorted(left, batch.action[row]))
    ranking = (action, *(k for k in range(len(left)) if k != action))
    multi = b",".join(candidates[k] for k in left.tolist())
    slot, policy = int(batch.slot[row]), "" if batch.policy is None else str(batch.policy[row])
    eligible = np.flatnonzero(page.slots[slot].eligible[left]).tolist()
    named = {"user": page.context.user, "slot": slot, "policy": policy, "eps": page.eps}
    if 0 < len(eligible) < len(left):  # an empty floor covers all candidates
        named["eligible"] = eligible
    return DsjsonDecision(
        decision_id=decision_id(page.context.page_id, slot),
        timestamp=_timestamp(int(batch.at_ms[row])),
        ranking=ranking,
        pmf=_pmf(batch.pmf, row, left[list(ranking)]),
        label=Label(action, float(batch.propensity[row]), 0.0 - float(batch.reward[row])),
        pdrop=0.0,
        skip_learn=False,
        context=b'{"U":' + shared + b',"_multi":[' + multi + b"]}",
        rest={name: _encoder.encode(value) for name, value in named.items()},
    )


def _named(names: tuple[str, ...], values: Float32s) -> dict[str, float]:
    """Return the features that are not 0, with the exact logged numbers."""
    if len(names) != len(values):
        raise ValueError(f"expected {len(names)} features, got {len(values)}")
    return {names[k]: float(values[k]) for k in np.flatnonzero(values)}


def _pmf(pmfs: Floats | None, row: int, candidates: Ints) -> tuple[float, ...]:
    if pmfs is None or not np.isfinite(pmfs[row]).all():
        return ()
    return tuple(pmfs[row, candidates].tolist())


def _timestamp(at_ms: int) -> str:
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
