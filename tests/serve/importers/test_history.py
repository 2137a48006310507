"""Files of views: three kinds of files, three formats, and mistakes with their lines."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from past import AT_MS

from serve.errors import BadFile
from serve.importers.history import HistoryViews, read

NOW_MS = AT_MS + 86_400_000
HEAD = "user_id,item_id,at_ms"


def rows_of(views: HistoryViews) -> list[tuple[str, str, int]]:
    ids = zip(views.user.tolist(), views.item.tolist(), views.at_ms.tolist(), strict=True)
    return [(views.user_ids[u], views.item_ids[i], at_ms) for u, i, at_ms in ids]


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


OWN = f"""{HEAD},dwell_s,completion,duration_s,like
bo,x,{AT_MS + 5},,0.5,40,true
ann,"y, the second",{AT_MS},12.5,,,1
bo,x,{AT_MS},0,,,0
"""


def test_views_are_read_by_user_and_time(tmp_path: Path) -> None:
    views = read(write(tmp_path, "h.csv", OWN), NOW_MS)
    assert rows_of(views) == [
        ("bo", "x", AT_MS),
        ("bo", "x", AT_MS + 5),
        ("ann", "y, the second", AT_MS),
    ]
    assert views.dwell_s[[0, 2]].tolist() == [0.0, 12.5]
    assert math.isnan(views.dwell_s[1])
    assert views.completion[1] == 0.5
    assert views.duration_s.tolist() == [0.0, 40.0, 0.0]
    assert views.reactions["like"].tolist() == [False, True, True]
    assert views.row.tolist() == [2, 0, 1]


def test_three_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    csv = read(write(tmp_path, "h.csv", OWN), NOW_MS)
    bo = f'{{"user_id":"bo","item_id":"x","at_ms":{AT_MS + 5},"completion":0.5,"duration_s":40'
    ann = f'{{"user_id":"ann","item_id":"y, the second","at_ms":{AT_MS},"dwell_s":12.5'
    lines = [
        bo + ',"like":true}',
        "",
        ann + ',"like":true}',
        f'{{"user_id":"bo","item_id":"x","at_ms":{AT_MS},"dwell_s":0}}',
    ]
    table = pa.table(
        {
            "user_id": ["bo", "ann", "bo"],
            "item_id": ["x", "y, the second", "x"],
            "at_ms": [AT_MS + 5, AT_MS, AT_MS],
            "dwell_s": [None, 12.5, 0.0],
            "completion": [0.5, None, None],
            "duration_s": [40.0, None, None],
            "like": [True, True, None],
        }
    )
    pq.write_table(table, tmp_path / "h.parquet")
    for other in (write(tmp_path, "h.jsonl", "\n".join(lines)), tmp_path / "h.parquet"):
        views = read(other, NOW_MS)
        assert rows_of(views) == rows_of(csv)
        for name in ("dwell_s", "completion", "duration_s"):
            np.testing.assert_array_equal(getattr(views, name), getattr(csv, name))
        assert views.reactions["like"].tolist() == csv.reactions["like"].tolist()


def test_a_table_as_pandas_writes_it_is_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array(["bo", "ann", "bo"]).dictionary_encode(),
            "item_id": pa.array(["x", "y", "z"]).dictionary_encode(),
            "at_ms": [AT_MS + 5, AT_MS, AT_MS],
            "dwell_s": [math.nan, 12.5, 0.0],
        }
    )
    pq.write_table(table, tmp_path / "h.parquet")
    views = read(tmp_path / "h.parquet", NOW_MS)
    assert rows_of(views) == [("bo", "z", AT_MS), ("bo", "x", AT_MS + 5), ("ann", "y", AT_MS)]
    np.testing.assert_array_equal(views.dwell_s, [0.0, math.nan, 12.5])


def test_kuairands_log_is_known_by_its_columns(tmp_path: Path) -> None:
    text = (
        "user_id,video_id,date,time_ms,play_time_ms,duration_ms,is_like,is_hate,is_forward,tab\n"
        f"3,7,20220425,{AT_MS},4500,0,0,1,0,1\n4,8,20220425,{AT_MS},9000,12000,1,0,1,1\n"
    )
    views = read(write(tmp_path, "log.csv", text), NOW_MS)
    assert rows_of(views) == [("3", "7", AT_MS), ("4", "8", AT_MS)]
    assert (views.dwell_s.tolist(), views.duration_s.tolist()) == ([4.5, 9.0], [0.0, 12.0])
    done = {kind: flags.tolist() for kind, flags in views.reactions.items()}
    assert done == {
        "like": [False, True],
        "not_interested": [True, False],
        "share": [False, True],
    }


def test_movielens_ratings_are_likes_and_dislikes_without_a_dwell(tmp_path: Path) -> None:
    rows = "1,10,4.0,964982703\n1,11,3.0,964981247\n2,10,0.5,964982224\n"
    text = f"userId,movieId,rating,timestamp\n{rows}"
    views = read(write(tmp_path, "ratings.csv", text), NOW_MS)
    assert rows_of(views)[0] == ("1", "11", 964_981_247_000)
    assert views.reactions["like"].tolist() == [False, True, False]
    assert views.reactions["not_interested"].tolist() == [False, False, True]
    assert np.isnan(views.dwell_s).all()


def test_the_format_may_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, "h.csv", f"{HEAD}\na,b,{AT_MS}\n")
    assert len(read(path, NOW_MS, "own")) == 1
    with pytest.raises(BadFile, match=r"column 'rating': expected this column, got user_id"):
        read(path, NOW_MS, "movielens")


MISTAKES = [
    ("h.csv", "user_id,item_id\na,b\n", "line 1, column 'at_ms': expected this column, got user"),
    ("h.csv", f"{HEAD},colour\na,b,{AT_MS},red\n", "column 'colour': expected columns of user_id"),
    ("h.csv", f"{HEAD}\na,b,{AT_MS}\na,b\n", "line 3: expected 3 cells, got 2"),
    ("h.csv", f"{HEAD}\na,b,{AT_MS}\n\na,b,{AT_MS}\n", "line 3: expected 3 cells, got 0"),
    ("h.csv", f"{HEAD}\n,b,{AT_MS}\n", "line 2, column 'user_id': expected"),
    ("h.csv", f"{HEAD}\nu/blocks,b,{AT_MS}\n", "not ending in /blocks, got 'u/blocks'"),
    ("h.csv", f"{HEAD}\na,..,{AT_MS}\n", "line 2, column 'item_id': expected no control"),
    ("h.csv", f"{HEAD}\na,b,soon\n", "line 2, column 'at_ms': expected Unix milliseconds, got 's"),
    ("h.csv", f"{HEAD}\na,b,\n", "line 2, column 'at_ms': expected Unix milliseconds, got none"),
    ("h.csv", f"{HEAD}\na,b,1760000000\n", "(seconds times 1000), got '1760000000'"),
    ("h.csv", f"{HEAD}\na,b,{NOW_MS + 1}\n", f"expected a time up to now, {NOW_MS}, got"),
    ("h.csv", f'{HEAD}\n"a\nb",b,{AT_MS}\na,b,x\n', "line 3, column 'user_id': expected no contr"),
    ("h.csv", f"{HEAD},dwell_s\na,b,{AT_MS},1\na,b,{AT_MS},-1\n", "line 3, column 'dwell_s': exp"),
    ("h.csv", f"{HEAD},dwell_s\na,b,{AT_MS},nan\n", "expected 0 to 86,400 seconds, got 'nan'"),
    ("h.csv", f"{HEAD},dwell_s\na,b,{AT_MS},1e9\n", "got '1e9'"),
    (
        "h.csv",
        f"{HEAD},like\na,b,{AT_MS},yes\n",
        "column 'like': expected 0 or 1, got 'yes'",
    ),
    ("h.csv", f"{HEAD},like\na,b,{AT_MS},2\n", "expected 0 or 1, got '2'"),
    ("h.csv", b"user_id,item_id,at_ms\ncaf\xe9,b,1\n", "expected UTF-8, got byte 0xe9"),
    ("h.csv", "", "expected rows, found none"),
    ("h.xlsx", "x", "expected one of .csv, .jsonl, .ndjson, .parquet, got '.xlsx'"),
    ("h.parquet", "x", "h.parquet: expected Parquet"),
    ("h.jsonl", "[1]\n", "line 1: expected a JSON object"),
    (
        "h.jsonl",
        '{"user_id": 1}\n\n{"user_id": "a"}\n',
        "line 3, column 'user_id': expected",
    ),
    (
        "h.jsonl",
        '{"user_id":"a","item_id":"b","at_ms":1180591620717411303424}\n',
        "column 'at_ms': expected texts, numbers or flags",
    ),
    (
        "h.jsonl",
        '{"user_id":"a","item_id":[1],"at_ms":1}\n{"user_id":"a","item_id":["x"],"at_ms":1}\n',
        "column 'item_id': expected",
    ),
    ("h.jsonl", '{"user_id":"a","item_id":"b","at_ms":[1]}\n', "line 1, column 'at_ms': expected"),
    (
        "log.csv",
        f"user_id,video_id,time_ms,is_like\n1,2,{AT_MS},7\n",
        "'is_like': expected 0",
    ),
    ("log.csv", "user_id,video_id,time_ms\n1,2,3\n", "column 'time_ms': expected Unix millisec"),
    ("r.csv", "userId,movieId,rating,timestamp\n1,2,6,964982703\n", "expected 0.5 to 5 stars"),
]


@pytest.mark.parametrize(("name", "text", "says"), MISTAKES)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, name: str, text: str | bytes, says: str
) -> None:
    with pytest.raises(BadFile) as raised:
        read(write(tmp_path, name, text), NOW_MS)
    assert says in str(raised.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there is no such file"):
        read(tmp_path / "h.csv", NOW_MS)
