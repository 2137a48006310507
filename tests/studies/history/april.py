"""KuaiRand's April history, imported by the commands' own jobs into a store of its own.

The history file has each user's last videos in order, those watched long and those liked, and the
time of the last one. A view gets a time by its place, and the dwell of a later impression of a
video as long that was watched long or was not, as this one. The world is fitted to the history and
to the impressions after it; why, and how it was checked: `docs/decisions/history-import.md`. Data:
KuaiRand-Pure (Gao et al., CIKM 2022, CC BY-SA 4.0).
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from env.calibration.fitting import fit
from env.vocabulary import Bools, Floats, Ints
from env.world.impressions import ImpressionTable
from env.world.responses import ResponseModel
from serve.config import Config
from serve.importers import history, kuairand
from serve.importers.kuairand import KuaiRand
from serve.jobs.import_data import import_items
from serve.jobs.import_users import ImportedHistory, import_people, import_views
from tests.studies.collaborative.history import FILE

GAP_MS = 30_000
"""Between two views of a user, whose times the file does not have."""

IMPORTED_MS = int(np.datetime64("2022-04-24T16:00:00", "ms").astype(np.int64))
"""Midnight before 25 April in Shanghai: the time of the import, and the start of the worlds."""

SHORT_S, MEDIUM_S = 18.0, 60.0
"""Durations that part donors of dwells; below the first a long view is one to the end."""

FULL_SCREEN = 1
"""KuaiRand's surface of most impressions, one card at a time."""


@dataclass(frozen=True, slots=True)
class April:
    """What the worlds of both arms are made of.

    Attributes:
        data: the folder's catalogue, users and impressions.
        model: fitted to the history and to the impressions of all days but the last.
        views: the history as impressions.
        imported: what the import came to.
    """

    data: KuaiRand
    model: ResponseModel
    views: ImpressionTable
    imported: ImportedHistory


def import_april(folder: Path, config: Config) -> April:
    """Import the catalogue, the users and their history into the settings' data folder."""
    data = kuairand.read(folder)
    views = read_history(folder / FILE, data)
    import_items(config, data.items, IMPORTED_MS)
    import_people(config, data.users, IMPORTED_MS)
    file = Path(config.data.folder) / "april.parquet"
    write_views(file, views, data)
    imported = import_views(config, history.read(file, IMPORTED_MS), IMPORTED_MS, FILE)
    return April(data, fit_world(data, views), views, imported)


def fit_world(data: KuaiRand, views: ImpressionTable) -> ResponseModel:
    """Return the answers of items and users, as the history and what came after it show them.

    The history has neither comments nor shares, follows or dislikes, so how often these happen is
    what the impressions after it say.
    """
    after = data.impressions.before(kuairand.LAST_DAY_MS)
    both = ImpressionTable(
        *(np.concatenate([getattr(part, f.name) for part in (views, after)]) for f in fields(views))
    )
    model, late = (fit(shown, data.items, data.users) for shown in (both, after))
    kept = {
        name: getattr(late.rates, name)
        for name in msgspec.structs.asdict(late.rates)
        if name.startswith(("comment", "share", "follow", "not_interested"))
    }
    return msgspec.structs.replace(model, rates=msgspec.structs.replace(model.rates, **kept))


def read_history(path: Path, data: KuaiRand) -> ImpressionTable:
    """Return the history of users and items of the folder as impressions of a full screen."""
    table: Any = pq.read_table(path)
    lengths = np.array([len(row) for row in table["watch_seq"].to_pylist()])
    ends = np.cumsum(lengths)
    back = np.repeat(ends, lengths) - 1 - np.arange(ends[-1])  # views of the user after it
    user_id = np.repeat(table["user_id"].to_numpy(), lengths)
    video_id = table["watch_seq"].combine_chunks().flatten().to_numpy()
    is_long, is_liked = (
        _are_in(table, column, user_id, video_id) for column in ("long_watch_seq", "like_seq")
    )
    last_ms = np.repeat(table["last_time_ms"].to_numpy(), lengths)
    users = {int(user_id): k for k, (user_id, _) in enumerate(data.users)}
    items = {int(item.item_id): k for k, item in enumerate(data.items)}
    item = np.array([items[each] for each in video_id.tolist()])
    duration_s = np.array([each.duration_s or 0.0 for each in data.items])[item]
    nothing = np.zeros(len(item), dtype=np.bool_)
    return ImpressionTable(
        user=np.array([users[each] for each in user_id.tolist()]),
        item=item,
        at_ms=np.minimum(last_ms - GAP_MS * back, IMPORTED_MS),
        surface=np.full(len(item), FULL_SCREEN),
        play_s=_plays(data.impressions.on_full_screen(), duration_s, is_long),
        duration_s=duration_s,
        like=is_liked,
        comment=nothing,
        share=nothing,
        follow=nothing,
        not_interested=nothing,
    )


def _plays(donors: ImpressionTable, duration_s: Floats, is_long: Bools) -> Floats:
    """Return seconds of plays that were long or not, as those of later ones of like length."""
    rng, played = np.random.default_rng(0), np.zeros(len(duration_s))
    theirs, mine = _lengths(donors.duration_s), _lengths(duration_s)
    was_long = donors.long_view()
    for length in np.unique(mine).tolist():
        for long in (True, False):
            some = np.flatnonzero((mine == length) & (is_long == long))
            pool = np.flatnonzero((theirs == length) & (was_long == long))
            if not len(pool):  # nobody watched one as long so: the least that is, and nothing
                least = np.where(duration_s > 0.0, np.minimum(duration_s, SHORT_S), SHORT_S)
                played[some] = least[some] if long else 0.0
                continue
            drawn = pool[rng.integers(len(pool), size=len(some))]
            played[some] = donors.play_s[drawn]
            if length == 1:  # a share of the duration, so that the end stays the end
                played[some] *= duration_s[some] / donors.duration_s[drawn]
    return played


def _lengths(duration_s: Floats) -> Ints:
    """Return 0 for an unknown duration, then 1 to 3 from short to long."""
    return np.digitize(duration_s, (1e-9, SHORT_S, MEDIUM_S), right=True)


def write_views(path: Path, views: ImpressionTable, data: KuaiRand) -> None:
    """Write views in the columns of `serve.importers.history`."""
    columns = {
        history.USER: [data.users[k][0] for k in views.user.tolist()],
        history.ITEM: [data.items[k].item_id for k in views.item.tolist()],
        history.TIME: views.at_ms,
        history.DWELL: views.play_s,
        "like": views.like,
    }
    pq.write_table(pa.table(columns), path)


def _are_in(table: Any, column: str, user: Ints, video: Ints) -> Bools:
    """Return whether each user's list in a column holds the video."""
    lists = zip(table["user_id"].to_pylist(), table[column].to_pylist(), strict=True)
    pairs = {(each, video) for each, videos in lists for video in videos}
    found = zip(user.tolist(), video.tolist(), strict=True)
    return np.array([pair in pairs for pair in found], dtype=np.bool_)
