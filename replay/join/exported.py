"""Datasets in files: the export that any tool reads, and its way back, exact to the last bit.

Columns and files are those of `replay.join.tables`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from env.feedback import SignalTally
from env.records import PageRecord
from env.vocabulary import Floats, UserKey
from replay.join.dataset import Dataset
from replay.join.page_batches import Behaviour, drawn_from
from replay.join.rows import FLAGS, ROW_COLUMNS, CoverageCounts, Pages
from replay.join.tables import (
    COMPRESSION,
    PROBABILITIES,
    decisions_schema,
    read_blocks,
    read_pages,
    write_pages,
)

_ABOUT = b"nextswipe"
_SCENE = ("country", "language", "device", "network", "hour", "weekday", "position")


class _About(msgspec.Struct, frozen=True, array_like=True):
    coverage: CoverageCounts
    reward_version: int
    signals: tuple[SignalTally, ...] = ()  # exports before there were any have none


def save(dataset: Dataset, folder: Path, behaviour: Behaviour | None = None) -> None:
    """Write a dataset as Parquet files of plain columns, see `replay.join.tables`.

    These are four, and `probabilities.parquet` where the policies that drew can be found.

    Args:
        dataset: in the order of the log.
        folder: is made.
        behaviour: finds the policy that drew a page, for the distributions; None: none are written.

    Raises:
        ValueError: a page's features are not as wide as its schema says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = [dataset.pages[place] for place in np.unique(dataset.page)]
    about = _About(dataset.coverage, dataset.reward_version, dataset.signals)
    schema = decisions_schema(dataset.signals).with_metadata({_ABOUT: msgspec.json.encode(about)})
    path = folder / "decisions.parquet"
    with pq.ParquetWriter(path, schema, compression=COMPRESSION) as writer:
        for rows in _parts(dataset):
            writer.write_table(pa.table(_decisions(dataset, rows), schema=schema))
    if behaviour is not None:
        _write_probabilities(dataset, behaviour, folder / "probabilities.parquet")
    write_pages(records, dataset.blocks, folder)


def load(folder: Path) -> Dataset:
    """Return the dataset that `save` wrote; its decisions may have been filtered since.

    Raises:
        FileNotFoundError: one of the four files is missing.
        ValueError: `decisions.parquet` was not written by `save`, a page fails the checks of
            `read`, candidates or blocks were changed, or a decision does not match its page's draw.
    """
    table = pq.read_table(folder / "decisions.parquet")
    about = (table.schema.metadata or {}).get(_ABOUT)
    if about is None:
        raise ValueError(f"expected a dataset that nextswipe wrote, got {folder}")
    stored = msgspec.json.decode(about, type=_About)
    kept = _load_pages(read_pages(folder), read_blocks(folder))
    ids = table.select(["page_id", "user"]).to_pydict()
    codes: dict[UserKey, int] = {}
    columns = {name: table[name].to_numpy() for name in ROW_COLUMNS if name in table.schema.names}
    columns |= {
        "page": np.array([kept.place(page_id) for page_id in ids["page_id"]]),
        "user": np.array([codes.setdefault(user, len(codes)) for user in ids["user"]]),
        "flags": np.stack([table[flag].to_numpy() for flag in FLAGS], axis=1),
        "values": _values(table, stored.signals),
    }
    order = np.lexsort((columns["slot"], columns["page"]))
    dataset = Dataset(
        pages=tuple(kept.known(place) for place in range(len(kept))),
        blocks=kept.blocks,
        users=tuple(codes),
        coverage=stored.coverage,
        reward_version=stored.reward_version,
        signals=stored.signals,
        **{name: column[order] for name, column in columns.items()},
    )
    _check_drawn(dataset)
    return dataset


def _load_pages(records: Iterable[PageRecord], blocks: Iterable[bytes]) -> Pages:
    pages = Pages()
    for block in blocks:
        pages.blocks.add(block)
    for record in records:
        pages.keep(record)
    return pages


def _check_drawn(dataset: Dataset) -> None:
    drawn = [{d.slot: (d.action, d.propensity) for d in page.drawn} for page in dataset.pages]
    for row in range(len(dataset)):
        got = (int(dataset.action[row]), float(dataset.propensity[row]))
        expected = drawn[dataset.page[row]].get(int(dataset.slot[row]))
        if got != expected:
            raise ValueError(
                f"expected action and propensity {expected} as the page drew them, got {got} in "
                f"decision {dataset.decision(row)}; was decisions.parquet changed?"
            )


ROWS_AT_A_TIME = 10_000
"""Decisions whose distributions are written together, which bounds the memory of an export."""


def _parts(dataset: Dataset) -> Iterator[range]:
    """Yield the rows of whole pages, at least one part."""
    starts = np.flatnonzero(np.diff(dataset.page, prepend=-1)).tolist()
    begin = 0
    for start in starts:
        if start - begin >= ROWS_AT_A_TIME:
            yield range(begin, start)
            begin = start
    yield range(begin, len(dataset))


def _write_probabilities(dataset: Dataset, behaviour: Behaviour, path: Path) -> None:
    with pq.ParquetWriter(path, PROBABILITIES, compression=COMPRESSION) as writer:
        for rows in _parts(dataset):
            columns = {
                "decision_id": [dataset.decision(row) for row in rows],
                "pmf": _pmfs(dataset, rows, behaviour),
            }
            writer.write_table(pa.table(columns, schema=PROBABILITIES))


def _pmfs(dataset: Dataset, rows: range, behaviour: Behaviour) -> list[Floats | None]:
    """Return the distribution of each of these rows; None where it is not known."""
    found: list[Floats | None] = [None] * len(rows)
    at = rows.start
    while at < rows.stop:
        place = int(dataset.page[at])
        end = at + int(np.searchsorted(dataset.page[at : rows.stop], place, side="right"))
        record = dataset.pages[place]
        page = dataset.blocks.page(record)
        pmfs = drawn_from(page, behaviour(record))
        by_slot = {d.slot: pmf for d, pmf in zip(page.decisions, pmfs, strict=False)}
        for row in range(at, end):
            found[row - rows.start] = by_slot.get(int(dataset.slot[row]))
        at = end
    return found


def _decisions(dataset: Dataset, rows: range) -> dict[str, object]:
    """Return columns of `decisions.parquet`, ids and scenes spelled out."""
    some = slice(rows.start, rows.stop)
    records = [dataset.pages[place] for place in dataset.page[some]]
    plain = {
        name: getattr(dataset, name)[some] for name in ROW_COLUMNS if name not in ("page", "flags")
    }
    return {
        "decision_id": [dataset.decision(row) for row in rows],
        "page_id": [record.page_id for record in records],
        "session": [record.session for record in records],
        "policy": [record.policy for record in records],
        "arm": [record.arm for record in records],
        "at_ms": [record.at_ms for record in records],
        "item_id": [
            record.candidates[action]
            for record, action in zip(records, dataset.action[some], strict=True)
        ],
        **{field: [getattr(record.scene, field) for record in records] for field in _SCENE},
        **plain,
        "user": [record.user for record in records],
        **{flag: dataset.flags[some, i] for i, flag in enumerate(FLAGS)},
        **{
            tally.name: _column(tally, dataset.values[some, k])
            for k, tally in enumerate(dataset.signals)
        },
    }


def _column(tally: SignalTally, values: Floats) -> object:
    """Return a signal's column: whether it was reported, or its value, null where it was not."""
    is_absent = np.isnan(values)
    return ~is_absent if tally.merge == "flag" else pa.array(values, mask=is_absent)


def _values(table: "pa.Table", signals: tuple[SignalTally, ...]) -> Floats:
    """Return the values of an export, the inverse of `_column`."""
    values = np.full((len(table), len(signals)), np.nan)
    for k, tally in enumerate(signals):
        column = table[tally.name]
        if tally.merge == "flag":
            values[column.to_numpy(), k] = 1.0
        else:
            values[:, k] = column.to_numpy()
    return values
