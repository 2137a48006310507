"""Reader of dsjson, and of Vowpal Wabbit's plain `--json` with the context at the top level.

Each line is bounded in length and depth before it is decoded, and an invalid one is refused with
its number and field. VW's own parser is less strict: see `docs/decisions/dsjson.md`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from replay.dsjson import Dangling, DsjsonDecision, DsjsonLine
from replay.dsjson_fields import LABELS, Fields
from replay.flat_json import flat_members
from replay.place import Place

MAX_LINE = 16 * 1024 * 1024
"""Bytes; about ten times a decision with 1,000 candidates of 100 features."""
MAX_DEPTH = 64
VERSION = "1"

_OWN = frozenset({"a", "p", "_p", "c", "EventId", "Timestamp", "pdrop", "_skipLearn"})
_OTHER_PROBLEMS = {
    "_outcomes": "decisions of several slots",
    "_label": "a label that is an object",
    "_label_ca": "an action on a continuum",
    "pdf": "an action on a continuum",
}
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_A_NUMBER = re.compile(rb'"(\w+)"\s*:\s*(-?(?:NaN|Infinity))')
_MAY_BE_HUGE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{300}")
_NESTING = np.zeros(256, dtype=np.int8)
_NESTING[list(b"{[")] = 1
_NESTING[list(b"}]")] = -1
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_dsjson(path: Path) -> Iterator[DsjsonLine]:
    """Yield a file's lines, holding one at a time.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is no single-choice decision, a propensity is out of (0, 1], a pmf does
            not sum to 1, a choice is not a candidate, a cost is not finite, the version is another
            one, or the file ends within a line; names line and field.
    """
    with path.open("rb") as file:
        for place, line in _lines(path, file):
            yield _read_line(place, line)


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[Place, bytes]]:
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        place = Place(path, number)
        if len(raw) > MAX_LINE:
            raise place.bad(f"expected at most {MAX_LINE:,} bytes")
        line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
        if not raw.endswith(b"\n") and _nesting(line)[-1:].any():
            raise place.bad(
                "the file ends in the middle of this line; was it cut, or copied while it was "
                "written? Take the line away, or get the whole file"
            )
        if line:
            yield place, line


def _read_line(place: Place, line: bytes) -> DsjsonLine:
    if _nesting(line).max(initial=0) > MAX_DEPTH:
        raise place.bad(f"expected at most {MAX_DEPTH} levels of objects and lists")
    members = _decode_members(place, line)
    for name, purpose in _OTHER_PROBLEMS.items():
        if name in members:
            raise place.bad(f"expected one choice among candidates, got {purpose}", name)
    fields = Fields(place, members)
    if "c" in fields:
        return _read_decision(fields, members)
    if "_multi" in fields:
        return _read_plain(fields, line)
    if fields.has_label:
        raise place.bad("expected the context of the decision that the label is of, got none", "c")
    if "a" not in fields and ("EventId" in fields or "RewardValue" in fields):
        return Dangling(line)
    raise place.bad("expected a decision with its context, or an outcome, got neither", "c")


def _nesting(line: bytes) -> np.typing.NDArray[np.int64]:
    """Return the nesting depth after each byte outside of strings."""
    return np.cumsum(
        _NESTING[np.frombuffer(_STRING.sub(b"", line), dtype=np.uint8)], dtype=np.int64
    )


def _decode_members(place: Place, line: bytes) -> dict[str, msgspec.Raw]:
    try:
        line.decode()  # the decoder checks only brackets and quotes of raw members
        if _MAY_BE_HUGE.search(line):
            msgspec.json.decode(line)
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise place.bad(f"expected UTF-8, got byte {line[error.start]:#04x}") from None
    except msgspec.DecodeError as error:
        found = _NOT_A_NUMBER.search(line)
        if found:
            field, got = (part.decode() for part in found.groups())
            raise place.bad(f"expected a finite number, got {got}", field) from None
        if _nesting(line)[-1:].any():
            raise place.bad(
                "expected a whole JSON object, but it goes on in the next line; dsjson has one "
                "decision a line: write it so, for example with jq -c . FILE"
            ) from None
        raise place.bad(f"expected a JSON object, but {error}") from None


def _read_decision(fields: Fields, members: dict[str, msgspec.Raw]) -> DsjsonDecision:
    fields.check_version(VERSION)
    n_actions = fields.count_actions(members["c"], "c")
    fields.check_place(n_actions)
    decision = DsjsonDecision(
        decision_id=fields.get("EventId", str, ""),
        timestamp=fields.timestamp(),
        ranking=fields.ranking(n_actions),
        pmf=fields.pmf(n_actions),
        label=fields.label(n_actions, numbered=True),
        pdrop=fields.pdrop(),
        skip_learn=fields.get("_skipLearn", bool, False),
        context=bytes(members["c"]),
        rest={name: bytes(value) for name, value in members.items() if _is_other(name)},
    )
    if decision.label is not None:
        expected = decision.probability_of(decision.label.action)
        fields.check_agreement(expected, decision.label, decision.pdrop)
    return decision


def _is_other(name: str) -> bool:
    return name not in _OWN and name.lower() not in LABELS


def _read_plain(fields: Fields, line: bytes) -> DsjsonDecision:
    """Return the decision of a line of VW's `--json`, in which all but the label is context.

    There is no ranking: the choice stands first, then the others in their order.
    """
    context = flat_members(line, lambda name: name.lower() not in LABELS)
    n_actions = fields.count_actions(msgspec.Raw(context), "_multi")
    label = fields.label(n_actions, numbered=False)
    first = () if label is None else (label.action,)
    return DsjsonDecision(
        decision_id="",
        timestamp="",
        ranking=first + tuple(k for k in range(n_actions) if k not in first),
        pmf=(),
        label=label,
        pdrop=0.0,
        skip_learn=False,
        context=context,
        rest={},
    )
