"""Writer of dsjson that `vw --dsjson --cb_explore_adf` reads.

The label's cost stands first, because VW's tools recognise a line by its beginning. A log read and
written again gives the same decisions, and VW gets the same features in the same order, hence the
same average loss.
"""

from collections.abc import Iterable
from typing import BinaryIO

import msgspec

from replay.dsjson import Dangling, DsjsonDecision, DsjsonLine

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
        case Dangling():
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
