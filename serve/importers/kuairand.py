"""Importer of KuaiRand (Gao et al., CIKM 2022, CC BY-SA 4.0): items, users and impressions.

The folder holds `video_features_basic_*.csv`, `user_features_*.csv` and any number of
`log_standard_*.csv` or `.parquet`, as published. Everything is checked before anything is returned.
Items have no title there: theirs names their tags and their number, so that no two are alike. A
missing `video_duration`, or a `duration_ms` of 0, means an unknown duration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from env.vocabulary import CreatorId, Ints, Item, ItemId, Profile, UserId
from env.world.impressions import ImpressionTable
from serve.errors import BadFile
from serve.importers.items import to_body
from serve.importers.tables import Row, read_table
from serve.wire.items import ItemBody
from serve.wire.users import ProfileBody

ZONE = ZoneInfo("Asia/Shanghai")
REGISTERED_BEFORE = datetime(2022, 4, 30, tzinfo=ZONE)
LAST_DAY_MS = int(REGISTERED_BEFORE.timestamp() * 1000)
"""Midnight of 30 April 2022 in Shanghai: that day is held out to judge the response model.

The log's own column `date` assigns 152 impressions of the evening before to that day.
"""

ITEM_COLUMNS = ("video_id", "author_id", "upload_dt", "video_duration", "music_id", "tag")

USER_COLUMNS = (
    "user_id",
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "register_days",
)

LOG_COLUMNS = (
    "user_id",
    "video_id",
    "time_ms",
    "tab",
    "play_time_ms",
    "duration_ms",
    "is_like",
    "is_comment",
    "is_forward",
    "is_follow",
    "is_hate",
)

FLAGS = LOG_COLUMNS[6:]


@dataclass(frozen=True, slots=True)
class KuaiRand:
    """Contents of a folder; impressions refer to items and users by index."""

    folder: Path
    items: list[Item]
    users: list[tuple[UserId, Profile]]
    impressions: ImpressionTable


def read(folder: Path) -> KuaiRand:
    """Return all of a KuaiRand folder.

    Raises:
        BadFile: a file is missing or invalid; with line and column.
    """
    items = [
        _read_item(row) for row in read_table(_find(folder, "video_features_basic"), ITEM_COLUMNS)
    ]
    users = [_read_user(row) for row in read_table(_find(folder, "user_features"), USER_COLUMNS)]
    item_index = _index(folder, "video_features_basic", [item.item_id for item in items])
    user_index = _index(folder, "user_features", [user_id for user_id, _ in users])
    logs = sorted(folder.glob("log_standard*.csv")) + sorted(folder.glob("log_standard*.parquet"))
    if not logs:
        raise BadFile(folder, "expected a log_standard*.csv or log_standard*.parquet, got none")
    tables = [_read_log(path, item_index, user_index) for path in logs]
    return KuaiRand(folder, items, users, _to_impressions(np.concatenate(tables, axis=1)))


def read_log(path: Path) -> KuaiRand:
    """Return one log, with the item and user tables beside it.

    Without a table, an item is an id and a duration, or a user an id.

    Raises:
        BadFile: a file is invalid; with line and column.
    """
    rows = _read_rows(path)
    if list(path.parent.glob("video_features_basic*.csv")):
        table = _find(path.parent, "video_features_basic")
        items = [_read_item(row) for row in read_table(table, ITEM_COLUMNS)]
    else:
        items = _bare_items(rows)
    if list(path.parent.glob("user_features*.csv")):
        table = _find(path.parent, "user_features")
        users = [_read_user(row) for row in read_table(table, USER_COLUMNS)]
    else:
        users = [(UserId(str(user)), Profile()) for user in np.unique(rows[0]).tolist()]
    item_index = _index(path.parent, "video_features_basic", [item.item_id for item in items])
    user_index = _index(path.parent, "user_features", [user_id for user_id, _ in users])
    rows = _to_positions(path, rows, item_index, user_index)
    return KuaiRand(path.parent, items, users, _to_impressions(rows))


def _bare_items(rows: Ints) -> list[Item]:
    """Return the items of a log's rows, each with the longest duration given for it."""
    ids, which = np.unique(rows[1], return_inverse=True)
    longest_ms = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(longest_ms, which, rows[5])
    return [
        Item(item_id=ItemId(str(item)), duration_s=duration_ms / 1000.0 if duration_ms else None)
        for item, duration_ms in zip(ids.tolist(), longest_ms.tolist(), strict=True)
    ]


def _find(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}*.csv"))
    if len(found) != 1:
        raise BadFile(folder, f"expected one {stem}*.csv, got {len(found)}")
    return found[0]


def _read_item(row: Row) -> Item:
    tags = [tag.strip() for tag in row.text("tag").split(",") if tag.strip()]
    duration_ms = row.read("video_duration", _parse_duration, "milliseconds or nothing")
    uploaded = row.read("upload_dt", datetime.fromisoformat, "a date like 2022-04-10")
    music = row.whole("music_id")
    item = Item(
        item_id=ItemId(str(row.whole("video_id"))),
        creator=CreatorId(str(row.whole("author_id"))),
        title=_title_of(row.whole("video_id"), tags),
        tags=tuple(f"t{tag}" for tag in tags),
        duration_s=duration_ms / 1000.0 if duration_ms else None,
        published_ms=int(uploaded.replace(tzinfo=ZONE).timestamp() * 1000),
        language="zh",
        country="CN",
        sound=str(music) if music else "",
    )
    to_body(row.path, row.line, msgspec.to_builtins(item), ItemBody)
    return item


def _title_of(video: int, tags: Sequence[str]) -> str:
    """Return a title by the first tags; the number keeps it from being another's duplicate."""
    topics = " and ".join(tags[:3])
    return f"Topic {topics}: video {video}" if topics else f"Video {video}"


def _parse_duration(text: str) -> float:
    duration_ms = float(text or 0.0)
    if not 0.0 <= duration_ms < 1e9:
        raise ValueError(text)
    return duration_ms


def _read_user(row: Row) -> tuple[UserId, Profile]:
    tags = (("author", "is_video_author"), ("streamer", "is_live_streamer"))
    registered = REGISTERED_BEFORE - timedelta(days=row.read("register_days", _parse_days, "days"))
    profile = Profile(
        country="CN",
        language="zh",
        cohort=row.text("user_active_degree"),
        tags=tuple(tag for tag, column in tags if row.text(column) == "1"),
        registered_ms=int(registered.timestamp() * 1000),
    )
    to_body(row.path, row.line, msgspec.to_builtins(profile), ProfileBody)
    return UserId(str(row.whole("user_id"))), profile


def _parse_days(text: str) -> int:
    days = int(text)
    if not 0 <= days < 20_000:
        raise ValueError(text)
    return days


def _index(folder: Path, stem: str, ids: list[ItemId] | list[UserId]) -> dict[str, int]:
    index: dict[str, int] = {}
    for k, name in enumerate(ids):
        if index.setdefault(name, k) != k:
            raise BadFile(_find(folder, stem), f"expected each id once, got {name} again", k + 2)
    return index


def _read_log(path: Path, item_index: dict[str, int], user_index: dict[str, int]) -> Ints:
    return _to_positions(path, _read_rows(path), item_index, user_index)


def _read_rows(path: Path) -> Ints:
    """Return the log's columns in the order of `LOG_COLUMNS`, with original ids, (11, n)."""
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    _check_range(path, rows)
    return rows


def _to_positions(
    path: Path, rows: Ints, item_index: dict[str, int], user_index: dict[str, int]
) -> Ints:
    """Return the columns with indices in place of user and item ids."""
    for place, column, index in ((0, "user_id", user_index), (1, "video_id", item_index)):
        ids, which = np.unique(rows[place], return_inverse=True)
        positions = np.array([index.get(str(k), -1) for k in ids.tolist()], dtype=np.int64)[which]
        if len(positions) and positions.min() < 0:
            k = int(np.argmin(positions))
            raise BadFile(path, f"expected a known id, got {rows[place, k]}", k + 2, column)
        rows[place] = positions
    return rows


def _read_csv(path: Path) -> Ints:
    cells = [[row.whole(column) for column in LOG_COLUMNS] for row in read_table(path, LOG_COLUMNS)]
    return np.array(cells, dtype=np.int64).reshape(-1, len(LOG_COLUMNS)).T.copy()


def _read_parquet(path: Path) -> Ints:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise BadFile(path, "there is no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise BadFile(path, f"expected Parquet, but {error}") from None
    for column in LOG_COLUMNS:
        if column not in table.column_names:
            raise BadFile(path, "expected this column", 1, column)
        if not pa.types.is_integer(table.schema.field(column).type):
            kind = table.schema.field(column).type
            raise BadFile(path, f"expected whole numbers, got {kind}", 1, column)
        if table[column].null_count:
            first = table[column].is_null().to_pylist().index(True)
            raise BadFile(path, "expected a value, got none", first + 2, column)
    return np.array([table[column].to_numpy() for column in LOG_COLUMNS], dtype=np.int64)


def _check_range(path: Path, rows: Ints) -> None:
    for place, column in enumerate(LOG_COLUMNS):
        most = 1 if column in FLAGS else 2**62
        bad = np.flatnonzero((rows[place] < 0) | (rows[place] > most))
        if len(bad):
            value = rows[place, bad[0]]
            expected = "0 or 1" if column in FLAGS else "a whole number of at least 0"
            raise BadFile(path, f"expected {expected}, got {value}", int(bad[0]) + 2, column)


def _to_impressions(rows: Ints) -> ImpressionTable:
    rows = rows[:, np.argsort(rows[2], kind="stable")]
    column = dict(zip(LOG_COLUMNS, rows, strict=True))
    return ImpressionTable(
        user=column["user_id"],
        item=column["video_id"],
        at_ms=column["time_ms"],
        surface=column["tab"],
        play_s=column["play_time_ms"] / 1000.0,
        duration_s=column["duration_ms"] / 1000.0,
        like=column["is_like"] == 1,
        comment=column["is_comment"] == 1,
        share=column["is_forward"] == 1,
        follow=column["is_follow"] == 1,
        not_interested=column["is_hate"] == 1,
    )
