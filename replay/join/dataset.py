"""Datasets: the log's decisions as validated columns in memory, one row per decision.

A row is a decision that was seen, closed and not censored, with its exact propensity. Page features
stay compact, once per page, and are expanded when a policy asks for them. An invalid log is refused
with the decision that shows it. Layout and rejected alternatives:
`docs/decisions/evaluation-data.md`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import msgspec
import numpy as np

from env.columns.schema import static_of
from env.pages.records import Blocks
from env.records import LogLine, PageRecord, encode_record, item_key
from env.reward import Reward
from env.vocabulary import (
    Bools,
    DecisionId,
    Feedback,
    Floats,
    Interaction,
    Ints,
    Page,
    UserKey,
    decision_id,
)
from replay.join.page_batches import PageRows, page_batches
from replay.join.rows import FLAGS, ROW_COLUMNS, CoverageCounts, Pages, read_rows
from replay.source import Batch

_ABOUT = b"nextswipe"
_SCENE = ("country", "language", "device", "network", "hour", "weekday", "position")
_page_decoder = msgspec.msgpack.Decoder(PageRecord)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Decisions as columns, grouped by page, with pages in the order of the log.

    `coverage` describes the log as it was read; `select` leaves it unchanged.
    """

    pages: tuple[PageRecord, ...]  # without cards and reasons
    blocks: Blocks
    users: tuple[UserKey, ...]
    page: Ints  # (n,) index into pages
    slot: Ints  # (n,)
    action: Ints  # (n,) index into the page's candidates
    user: Ints  # (n,) index into users
    propensity: Floats  # (n,) in (0, 1]
    reward: Floats  # (n,) finite
    n_actions: Ints  # (n,) candidates that the slot had left to choose from
    duration_s: Floats  # (n,) 0 where unknown
    dwell_s: Floats  # (n,)
    flags: Bools  # (n, len(FLAGS))
    closed_ms: Ints  # (n,)
    coverage: CoverageCounts
    reward_version: int

    def __len__(self) -> int:
        return len(self.page)

    @property
    def reward_range(self) -> tuple[float, float] | None:
        """None: the dataset keeps the version of the reward, not its weights."""
        return None

    def select(self, rows: Bools | Ints) -> "Dataset":
        """Return the dataset of these rows, given as a mask of shape (n,) or increasing indices."""
        columns = {name: getattr(self, name)[rows] for name in ROW_COLUMNS}
        return dataclasses.replace(self, **columns)

    def by_page(self) -> Iterator[tuple[Page, Ints]]:
        """Yield each page that has rows, with the indices of its rows in slot order."""
        starts = np.flatnonzero(np.diff(self.page, prepend=-1))
        ends = np.append(starts, len(self))[1:]
        for start, end in zip(starts, ends, strict=True):
            rows = np.arange(start, end)
            yield self.blocks.page(self.pages[self.page[rows[0]]]), rows

    def batches(self) -> Iterator[Batch]:
        """Yield the decisions in batches, as a `replay.source.Source`.

        User profiles are not kept, so the batches have no cohorts.
        """
        return page_batches(
            PageRows(
                record=self.pages[self.page[rows[0]]],
                page=page,
                slot=self.slot[rows],
                user=int(self.user[rows[0]]),
                reward=self.reward[rows],
            )
            for page, rows in self.by_page()
        )

    def interactions(self, rows: Ints) -> Sequence[Interaction]:
        """Return these rows as Interactions, each built on access."""
        return _Interactions(self, rows)

    def interaction(self, row: int) -> Interaction:
        """Return a row as the Interaction that the join closed."""
        record, slot, action = self.pages[self.page[row]], self.slot[row], self.action[row]
        item_id = record.candidates[action]
        width = len(record.dynamic) // len(record.candidates)
        block = static_of(self.blocks.block(record.blocks[8 * action : 8 * action + 8]))
        return Interaction(
            decision_id=decision_id(record.page_id, int(slot)),
            page_id=record.page_id,
            user=record.user,
            session=record.session,
            item_id=item_id,
            slot=int(slot),
            policy=record.policy,
            propensity=float(self.propensity[row]),
            n_actions=int(self.n_actions[row]),
            shared=record.shared,
            action=block + record.dynamic[width * action : width * (action + 1)],
            item_key=item_key(item_id),
            duration_s=float(self.duration_s[row]),
            feedback=Feedback(
                dwell_s=float(self.dwell_s[row]),
                **dict(zip(FLAGS, self.flags[row].tolist(), strict=True)),
            ),
            reward=float(self.reward[row]),
            scene=record.scene,
            closed_ms=int(self.closed_ms[row]),
        )

    def decision(self, row: int) -> DecisionId:
        """Return a row's decision id."""
        return decision_id(self.pages[self.page[row]].page_id, int(self.slot[row]))


class _Interactions(Sequence[Interaction]):
    """A lazy sequence of a dataset's rows as Interactions; it holds only indices."""

    def __init__(self, dataset: Dataset, rows: Ints) -> None:
        self._dataset = dataset
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> "_Interactions": ...
    def __getitem__(self, index: int | slice) -> "Interaction | _Interactions":
        if isinstance(index, slice):
            return _Interactions(self._dataset, self._rows[index])
        return self._dataset.interaction(int(self._rows[index]))


def read(
    lines: Iterable[LogLine],
    reward: Reward,
    where: Callable[[PageRecord], bool] = lambda page: True,
) -> Dataset:
    """Return the closed, uncensored decisions of a log, read once from its beginning.

    The join is flushed at the log's end, so that decisions still waiting for feedback close.

    Args:
        lines: the whole log in order; pages refer to items in earlier lines.
        where: selects the pages to read, for example one arm of an experiment.

    Raises:
        ValueError: a page has a propensity out of (0, 1], an action that is not a candidate or not
            on its slot's mask, another feature schema or an unknown item's block; or a reward is
            not finite. The message names the decision or page.
    """
    rows = read_rows(lines, reward, where)
    used, page = np.unique(rows.table["page"], return_inverse=True)  # drops unseen pages
    columns = {name: np.ascontiguousarray(rows.table[name]) for name in ROW_COLUMNS}
    columns["page"] = page.astype(np.int64)
    return Dataset(
        pages=tuple(rows.pages.known(place) for place in used),
        blocks=rows.pages.blocks,
        users=rows.users,
        coverage=rows.coverage,
        reward_version=reward.version,
        **columns,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """Write a dataset as three Parquet files: `decisions`, `pages` and `blocks`.

    `decisions.parquet` has one row per decision in plain columns (ids, scene, feedback, reward) for
    use by other tools. `pages.parquet` holds page records as msgpack, as in the log, and
    `blocks.parquet` the static features that pages refer to by content hash.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    used = np.unique(dataset.page)
    records = [dataset.pages[place] for place in used]
    hashes = {r.blocks[i : i + 8]: None for r in records for i in range(0, len(r.blocks), 8)}
    about = msgspec.json.encode([dataset.coverage, dataset.reward_version])
    decisions = pa.table(_decisions(dataset)).replace_schema_metadata({_ABOUT: about})
    pages = pa.table(
        {
            "page_id": [r.page_id for r in records],
            "at_ms": pa.array([r.at_ms for r in records], pa.int64()),
            "record": pa.array([encode_record(r) for r in records], pa.large_binary()),
        }
    )
    blocks = pa.table({"block": pa.array([dataset.blocks.block(h) for h in hashes], pa.binary())})
    for name, table in (("decisions", decisions), ("pages", pages), ("blocks", blocks)):
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def load(folder: Path) -> Dataset:
    """Return the dataset that `save` wrote; its decisions may have been filtered since.

    Raises:
        FileNotFoundError: one of the three files is missing.
        ValueError: `decisions.parquet` was not written by `save`, a page fails the checks of
            `read`, or a decision does not match its page's draw.
        msgspec.ValidationError: `pages.parquet` holds something other than pages.
    """
    import pyarrow.parquet as pq

    table, pages, stored = (
        pq.read_table(folder / f"{name}.parquet") for name in ("decisions", "pages", "blocks")
    )
    about = (table.schema.metadata or {}).get(_ABOUT)
    if about is None:
        raise ValueError(f"expected a dataset that nextswipe wrote, got {folder}")
    coverage, reward_version = msgspec.json.decode(about, type=tuple[CoverageCounts, int])
    kept = _load_pages(pages.to_pydict()["record"], stored.to_pydict()["block"])
    ids = table.select(["page_id", "user"]).to_pydict()
    codes: dict[UserKey, int] = {}
    columns = {name: table[name].to_numpy() for name in ROW_COLUMNS if name in table.schema.names}
    columns |= {
        "page": np.array([kept.place(page_id) for page_id in ids["page_id"]]),
        "user": np.array([codes.setdefault(user, len(codes)) for user in ids["user"]]),
        "flags": np.stack([table[flag].to_numpy() for flag in FLAGS], axis=1),
    }
    order = np.lexsort((columns["slot"], columns["page"]))
    dataset = Dataset(
        pages=tuple(kept.known(place) for place in range(len(kept))),
        blocks=kept.blocks,
        users=tuple(codes),
        coverage=coverage,
        reward_version=reward_version,
        **{name: column[order] for name, column in columns.items()},
    )
    _check_drawn(dataset)
    return dataset


def _load_pages(records: Iterable[bytes], blocks: Iterable[bytes]) -> Pages:
    pages = Pages()
    for block in blocks:
        pages.blocks.add(block)
    for data in records:
        pages.keep(_page_decoder.decode(data))
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


def _decisions(dataset: Dataset) -> dict[str, object]:
    """Return the columns of `decisions.parquet`, ids and scenes spelled out."""
    records = [dataset.pages[place] for place in dataset.page]
    plain = {name: getattr(dataset, name) for name in ROW_COLUMNS if name not in ("page", "flags")}
    return {
        "decision_id": [dataset.decision(row) for row in range(len(dataset))],
        "page_id": [record.page_id for record in records],
        "session": [record.session for record in records],
        "policy": [record.policy for record in records],
        "arm": [record.arm for record in records],
        "at_ms": [record.at_ms for record in records],
        "item_id": [
            record.candidates[action]
            for record, action in zip(records, dataset.action, strict=True)
        ],
        **{field: [getattr(record.scene, field) for record in records] for field in _SCENE},
        **plain,
        "user": [record.user for record in records],
        **{flag: dataset.flags[:, i] for i, flag in enumerate(FLAGS)},
    }
