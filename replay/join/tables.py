"""Parquet tables of a log's pages: each number in a column of its own, for any tool to read.

    pages.parquet       one row a page: user, scene, policy, draws, features of user and scene
    candidates.parquet  one row a candidate of a page: its masks and its dynamic features
    blocks.parquet      one row a static block: the features that many candidates share

`decisions.parquet` and `probabilities.parquet`, one row a decision, are of `replay.join.exported`.

`docs/data.md` describes the columns, and each has its meaning in its Parquet field's metadata.
Rejected alternatives: `docs/decisions/evaluation-data.md`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from env.columns.schema import (
    DYNAMIC_COLUMNS,
    DYNAMIC_WIDTHS,
    N_DYNAMIC,
    SHARED_COLUMNS,
    STATIC_COLUMNS,
    Column,
    widened,
)
from env.feedback import SHIPPED, SignalTally
from env.pages.records import Blocks
from env.records import (
    Drawn,
    PageRecord,
    RuleRecord,
    block_hash,
    pack_halves,
    unpack_halves,
)
from env.vocabulary import Float32s, ItemId, PageId, Scene, SessionId, UserKey
from replay.join.rows import FLAGS, valued

PAGES_AT_A_TIME = 500
"""Pages whose candidates are written together, which bounds the memory of an export."""

COMPRESSION: Final = "zstd"
_HASH = 8
_SCENE = tuple(name for name in Scene.__struct_fields__ if name != "at_ms")
Row = dict[str, Any]


def _field(name: str, kind: "pa.DataType", meaning: str) -> "pa.Field[Any]":
    return pa.field(name, kind, metadata={"description": meaning})


def _features(columns: Sequence[Column], prefix: str = "") -> "list[pa.Field[Any]]":
    return [_field(f"{prefix}{c.name}", pa.float32(), c.meaning) for c in columns]


_TEXT, _INT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_DRAWN = pa.struct([("slot", _INT), ("action", _INT), ("propensity", _REAL)])
_SCENE_FIELDS = (
    _field("country", _TEXT, "country of the request, ISO 3166 alpha-2"),
    _field("language", _TEXT, "language of the request, ISO 639"),
    _field("device", _TEXT, "phone, tablet, desktop or tv"),
    _field("network", _TEXT, "network of the request"),
    _field("hour", _INT, "hour of the day in the user's time zone, 0 to 23"),
    _field("weekday", _INT, "0, Monday, to 6 in the user's time zone"),
    _field("position", _INT, "cards of the session already seen"),
)
_DRAWN_BY = (
    _field("session", _TEXT, "session of the page"),
    _field("policy", _TEXT, "name@version that ranked the page"),
    _field("arm", _TEXT, "arm of the experiment; empty without one"),
    _field("at_ms", _INT, "server time of the page, Unix milliseconds"),
)

_DECISIONS = pa.schema(
    [
        _field("decision_id", _TEXT, "the page's id and the slot"),
        _field("page_id", _TEXT, "page of the decision"),
        *_DRAWN_BY,
        _field("item_id", _TEXT, "item that was shown"),
        *_SCENE_FIELDS,
        _field("slot", _INT, "place on the page, from 0"),
        _field("action", _INT, "index of the item among the page's candidates"),
        _field("user", _TEXT, "pseudonym of the user"),
        _field("propensity", _REAL, "exact probability of the draw, in (0, 1]"),
        _field("reward", _REAL, "reward, under the settings of the export"),
        _field("n_actions", _INT, "candidates that the slot had left to choose from"),
        _field("duration_s", _REAL, "length of the item in seconds; 0 where unknown"),
        _field("dwell_s", _REAL, "seconds for which the card was on screen"),
        *(_field(flag, _FLAG, f"whether the feedback has {flag}") for flag in FLAGS),
        _field("closed_ms", _INT, "server time at which the decision closed"),
    ]
)


def decisions_schema(signals: Iterable[SignalTally]) -> "pa.Schema":
    """Return the columns of `decisions.parquet`, the last of them one for each of these signals."""
    return pa.schema([*_DECISIONS, *map(_signal, signals)])


def _signal(tally: SignalTally) -> "pa.Field[Any]":
    if tally.merge == "flag":
        return _field(tally.name, _FLAG, f"whether the feedback has {tally.name}")
    how = "sum" if tally.merge == "sum" else "largest"
    return _field(tally.name, _REAL, f"{how} of the {tally.name} values; null without any")


DECISIONS = decisions_schema(valued(SHIPPED.tallies))
PROBABILITIES = pa.schema(
    [
        _field("decision_id", _TEXT, "the decision, as in decisions.parquet"),
        _field(
            "pmf",
            pa.list_(_REAL),
            "probability of each candidate of the page at this draw; missing where it is not known",
        ),
    ]
)

PAGES = pa.schema(
    [
        _field("page_id", _TEXT, "page"),
        _field("user", _TEXT, "pseudonym of the user"),
        *_DRAWN_BY,
        *_SCENE_FIELDS,
        _field("referrer", _TEXT, "source of the visit, in the caller's words"),
        _field("cohort", _TEXT, "cohort of the user, as registered"),
        _field("origin", _TEXT, "keyed hash of the request's address block; empty where unknown"),
        _field("tenure_days", _INT, "whole days since the user registered"),
        _field("n_candidates", _INT, "rows of the page in candidates.parquet"),
        _field("feature_schema", _INT, "number of the feature schema"),
        _field("eps", _REAL, "exploration floor"),
        _field("explorer", _TEXT, "arguments of the explorer, as JSON"),
        _field("rules", pa.list_(_TEXT), "names of the page's slot rules"),
        _field("slots", pa.list_(_INT), "index of each slot's rule"),
        _field("drawn", pa.list_(_DRAWN), "all draws of the page, seen or not"),
        _field("proposers", pa.list_(_INT), "sources that proposed each drawn item"),
        _field("degraded", _TEXT, "reason why the page falls short of the request"),
        _field("removed", _TEXT, "items that filters removed, by reason, as JSON"),
        *_features(SHARED_COLUMNS, "shared_"),
    ]
)

CANDIDATES = pa.schema(
    [
        _field("page_id", _TEXT, "page"),
        _field("action", _INT, "index of the candidate on the page, from 0"),
        _field("item_id", _TEXT, "item"),
        _field("block", _TEXT, "its static features: a row of blocks.parquet"),
        _field("allowed", pa.list_(_FLAG), "by slot rule: whether a slot may take it"),
        _field("eligible", pa.list_(_FLAG), "by slot rule: whether exploration may draw it"),
        *_features(DYNAMIC_COLUMNS),
    ]
)

BLOCKS = pa.schema(
    [
        _field("block", _TEXT, "content hash of the features, 16 hex digits"),
        *_features(STATIC_COLUMNS),
    ]
)

SCHEMAS = {
    "decisions": DECISIONS,
    "probabilities": PROBABILITIES,
    "pages": PAGES,
    "candidates": CANDIDATES,
    "blocks": BLOCKS,
}
"""Columns of each file, by its name without suffix; decisions with the shipped signals."""


def write_pages(records: Sequence[PageRecord], blocks: Blocks, folder: Path) -> None:
    """Write pages, their candidates and their static blocks.

    Raises:
        ValueError: a page's features are not as wide as its schema says.
    """
    with ExitStack() as stack:
        pages, candidates = (
            stack.enter_context(
                pq.ParquetWriter(folder / f"{name}.parquet", SCHEMAS[name], compression=COMPRESSION)
            )
            for name in ("pages", "candidates")
        )
        for first in range(0, len(records), PAGES_AT_A_TIME):
            some = records[first : first + PAGES_AT_A_TIME]
            pages.write_table(_page_table(some))
            candidates.write_table(_candidate_table(some))
    hashes = list(dict.fromkeys(h for record in records for h in _hashes(record)))
    static = np.stack([unpack_halves(blocks.block(h)) for h in hashes]) if hashes else None
    columns = {"block": [h.hex() for h in hashes], **_named(STATIC_COLUMNS, static)}
    pq.write_table(
        pa.table(columns, schema=BLOCKS), folder / "blocks.parquet", compression=COMPRESSION
    )


def read_blocks(folder: Path) -> list[bytes]:
    """Return the static blocks of an export, float16 bytes.

    Raises:
        ValueError: a block is not the one that its hash names.
    """
    table = pq.read_table(folder / "blocks.parquet")
    found = [pack_halves(row) for row in _matrix(table, STATIC_COLUMNS)]
    for block, named in zip(found, table["block"].to_pylist(), strict=True):
        if block_hash(block).hex() != named:
            raise ValueError(f"expected the features of block {named}, got changed ones")
    return found


def read_pages(folder: Path) -> Iterator[PageRecord]:
    """Yield the pages of an export, without cards and reasons, in the order of the log.

    Raises:
        ValueError: a page's candidates are not those that were written.
    """
    table = pq.read_table(folder / "pages.parquet")
    shared = _matrix(table, SHARED_COLUMNS, "shared_")
    names = [name for name in table.schema.names if not name.startswith("shared_")]
    rows = table.select(names).to_pylist()
    candidates = pq.ParquetFile(folder / "candidates.parquet")
    waiting = _candidate_rows(candidates)
    for row, features in zip(rows, shared, strict=True):
        taken = [next(waiting, None) for _ in range(row["n_candidates"])]
        if any(one is None or one[0]["page_id"] != row["page_id"] for one in taken):
            raise ValueError(
                f"expected {row['n_candidates']} candidates of page {row['page_id']}, in their "
                "order; was candidates.parquet changed?"
            )
        yield _record(row, features, [one for one in taken if one is not None])


def _page_table(records: Sequence[PageRecord]) -> "pa.Table":
    shared = np.stack([unpack_halves(record.shared) for record in records])
    if shared.shape[1] != len(SHARED_COLUMNS):
        raise ValueError(f"expected {len(SHARED_COLUMNS)} shared features, got {shared.shape[1]}")
    rows = [
        {
            **{name: getattr(record.scene, name) for name in _SCENE},
            "page_id": record.page_id,
            "user": record.user,
            "session": record.session,
            "policy": record.policy,
            "arm": record.arm,
            "at_ms": record.at_ms,
            "n_candidates": len(record.candidates),
            "feature_schema": record.feature_schema,
            "eps": record.eps,
            "explorer": msgspec.json.encode(record.explorer).decode(),
            "rules": [rule.name for rule in record.rules],
            "slots": record.slots,
            "drawn": [msgspec.structs.asdict(drawn) for drawn in record.drawn],
            "proposers": record.proposers,
            "degraded": record.degraded,
            "removed": msgspec.json.encode(record.removed).decode(),
        }
        for record in records
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return pa.table({**columns, **_named(SHARED_COLUMNS, shared, "shared_")}, schema=PAGES)


def _candidate_table(records: Sequence[PageRecord]) -> "pa.Table":
    each = [record for record in records for _ in record.candidates]
    dynamic = np.concatenate([_dynamic(record) for record in records])
    columns: Row = {
        "page_id": [record.page_id for record in each],
        "action": [k for record in records for k in range(len(record.candidates))],
        "item_id": [item_id for record in records for item_id in record.candidates],
        "block": [h.hex() for record in records for h in _hashes(record)],
        "allowed": [row for r in records for row in _masks(r, [rule.mask for rule in r.rules])],
        "eligible": [
            row for r in records for row in _masks(r, [rule.eligible for rule in r.rules])
        ],
    }
    return pa.table({**columns, **_named(DYNAMIC_COLUMNS, dynamic)}, schema=CANDIDATES)


def _dynamic(record: PageRecord) -> Float32s:
    """Return a page's dynamic features, (n, N_DYNAMIC); those of later schemas are 0."""
    n, width = len(record.candidates), DYNAMIC_WIDTHS[record.feature_schema]
    if len(record.dynamic) != 2 * n * width:
        raise ValueError(
            f"expected {width} dynamic features of {n} candidates, got {len(record.dynamic) // 2} "
            f"in page {record.page_id}"
        )
    rows = (record.dynamic[2 * width * k : 2 * width * (k + 1)] for k in range(n))
    return unpack_halves(b"".join(map(widened, rows))).reshape(n, N_DYNAMIC)


def _masks(record: PageRecord, packed: Sequence[bytes]) -> list[list[bool]]:
    """Return a list for each candidate, of a flag for each rule."""
    n = len(record.candidates)
    bits = [np.frombuffer(mask, np.uint8) for mask in packed]
    flags = [np.unpackbits(mask, count=n, bitorder="little").astype(np.bool_) for mask in bits]
    return np.array(flags).T.tolist() if flags else [[] for _ in range(n)]


def _packed(candidates: Sequence[Row], name: str, rule: int) -> bytes:
    flags = np.array([candidate[name][rule] for candidate in candidates], np.bool_)
    return np.packbits(flags, bitorder="little").tobytes()


def _hashes(record: PageRecord) -> Iterator[bytes]:
    return (record.blocks[i : i + _HASH] for i in range(0, len(record.blocks), _HASH))


def _named(columns: Sequence[Column], values: Float32s | None, prefix: str = "") -> Row:
    return {
        f"{prefix}{column.name}": [] if values is None else values[:, k]
        for k, column in enumerate(columns)
    }


def _matrix(table: Any, columns: Sequence[Column], prefix: str = "") -> Float32s:
    return np.stack([table[f"{prefix}{c.name}"].to_numpy() for c in columns], axis=1)


def _candidate_rows(file: "pq.ParquetFile") -> Iterator[tuple[Row, Float32s]]:
    """Yield each candidate's plain columns with its dynamic features."""
    features = {column.name for column in DYNAMIC_COLUMNS}
    names = [name for name in CANDIDATES.names if name not in features]
    for batch in file.iter_batches():
        table = pa.Table.from_batches([batch])
        yield from zip(
            table.select(names).to_pylist(), _matrix(table, DYNAMIC_COLUMNS), strict=True
        )


def _record(row: Row, shared: Float32s, candidates: Iterable[tuple[Row, Float32s]]) -> PageRecord:
    taken = list(candidates)
    plain, width = [one for one, _ in taken], DYNAMIC_WIDTHS[row["feature_schema"]]
    return PageRecord(
        page_id=PageId(row["page_id"]),
        at_ms=row["at_ms"],
        user=UserKey(row["user"]),
        session=SessionId(row["session"]),
        scene=Scene(row["at_ms"], **{name: row[name] for name in _SCENE}),
        candidates=tuple(ItemId(candidate["item_id"]) for candidate in plain),
        blocks=b"".join(bytes.fromhex(candidate["block"]) for candidate in plain),
        dynamic=b"".join(pack_halves(dynamic[:width]) for _, dynamic in taken),
        shared=pack_halves(shared),
        feature_schema=row["feature_schema"],
        rules=tuple(
            RuleRecord(name, _packed(plain, "allowed", k), _packed(plain, "eligible", k))
            for k, name in enumerate(row["rules"])
        ),
        slots=tuple(row["slots"]),
        drawn=tuple(Drawn(**drawn) for drawn in row["drawn"]),
        cards=(),
        reasons=(),
        policy=row["policy"],
        explorer=msgspec.json.decode(row["explorer"]),
        eps=row["eps"],
        arm=row["arm"],
        degraded=row["degraded"],
        removed=msgspec.json.decode(row["removed"]),
        proposers=tuple(row["proposers"]),
    )
