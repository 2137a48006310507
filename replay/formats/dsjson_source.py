"""A dsjson log as a Source: batches of decisions with masks and logged distributions.

Candidates are identified by their index in `_multi`; the context's and the candidates' features are
the hashed columns of `replay.formats.dsjson_source`.

See also `docs/decisions/dsjson.md`.
"""

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
import numpy as np

from env.vocabulary import Bools, Floats
from replay.formats.dsjson_line import (
    LABELS,
    DanglingOutcome,
    DsjsonDecision,
    DsjsonLine,
    Fields,
    Label,
)
from replay.join.rows import CoverageCounts
from replay.log.format import LinePosition, flat_members
from replay.source import BATCH_ROWS, Batch, Draws

N_SHARED = 32
N_ACTION = 32
MAX_VALUE = 1e6
"""Clipping bound of a number, so that a time in milliseconds does not dominate its column."""

_KEPT = 8_192
"""Size of the cache of candidates' columns, since candidates recur."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])


def context_features(context: bytes) -> tuple[Floats, list[Floats]]:
    """Return the shared columns, (N_SHARED,), and each candidate's, (N_ACTION,).

    Args:
        context: `c` as logged, with its candidates in `_multi`.
    """
    members = _members.decode(context)
    candidates = _list.decode(members.pop("_multi"))
    shared = np.zeros(N_SHARED)
    for name, raw in members.items():
        if not name.startswith("_"):
            _add(shared, name, msgspec.json.decode(raw))
    return shared, [_candidate(bytes(raw)) for raw in candidates]


@lru_cache(maxsize=_KEPT)
def _candidate(text: bytes) -> Floats:
    columns = np.zeros(N_ACTION)
    _add(columns, "", msgspec.json.decode(text))
    columns.setflags(write=False)
    return columns


def _add(columns: Floats, name: str, value: object) -> None:
    for feature, amount in _features(name, value):
        place = zlib.crc32(feature.encode())
        columns[(place >> 1) % len(columns)] += amount if place & 1 else -amount


def _features(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Yield each feature below a name with its amount; a null has none."""
    match value:
        case int() | float():
            yield name, min(max(float(value), -MAX_VALUE), MAX_VALUE)
        case str():
            yield f"{name}={value}", 1.0
        case list() | dict():
            for inner, part in _parts(name, value):
                yield from _features(inner, part)
        case _:
            return


def _parts(name: str, value: list[object] | dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the named children of a value; objects of a list share its name, as in VW."""
    if isinstance(value, list):
        for place, part in enumerate(value):
            yield (name if isinstance(part, dict) else f"{name}[{place}]"), part
    else:
        for key, part in value.items():
            if not key.startswith("_"):
                yield f"{name}.{key}", part


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


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[LinePosition, bytes]]:
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        place = LinePosition(path, number)
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


def _read_line(place: LinePosition, line: bytes) -> DsjsonLine:
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
        return DanglingOutcome(line)
    raise place.bad("expected a decision with its context, or an outcome, got neither", "c")


def _nesting(line: bytes) -> np.typing.NDArray[np.int64]:
    """Return the nesting depth after each byte outside of strings."""
    return np.cumsum(
        _NESTING[np.frombuffer(_STRING.sub(b"", line), dtype=np.uint8)], dtype=np.int64
    )


def _decode_members(place: LinePosition, line: bytes) -> dict[str, msgspec.Raw]:
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
        self._coverage = CoverageCounts(0, 0, 0)

    @property
    def coverage(self) -> CoverageCounts:
        """Counts of the file's decisions at its last reading."""
        return self._coverage

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions, with one batch in memory; raise as `read_dsjson` does."""
        users = _People()
        rows: list[tuple[DsjsonDecision, Label, int]] = []
        width = 0
        for decision, label in self._labelled():
            code = users.code(_text(decision, "user"))
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
        self._coverage = msgspec.structs.replace(self._coverage, unnamed=users.n_unnamed)

    def _labelled(self) -> Iterator[tuple[DsjsonDecision, Label]]:
        n, n_seen, n_censored, n_dangling = 0, 0, 0, 0
        for line in read_dsjson(self.path):
            if isinstance(line, DanglingOutcome):
                n_dangling += 1
                continue
            n += 1
            n_seen += not line.skip_learn
            if line.label is None:
                n_censored += not line.skip_learn
            elif not line.skip_learn:
                yield line, line.label
        self._coverage = CoverageCounts(n, n_seen, n_censored, dangling=n_dangling)


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
    context, action_context = _feature_arrays(decisions, width)
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


def _feature_arrays(decisions: list[DsjsonDecision], width: int) -> tuple[Floats, Floats]:
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
