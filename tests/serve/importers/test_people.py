"""Files of profiles, checked as the API checks them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from env.vocabulary import CreatorId, Profile
from serve.errors import BadFile
from serve.importers.people import read

ANN = Profile(country="GB", tags=("cats", "sea"), follows=(CreatorId("lou"),), birth_year=1990)


def test_profiles_are_read_from_three_kinds_of_files(tmp_path: Path) -> None:
    csv, lines, parquet = (tmp_path / f"p.{suffix}" for suffix in ("csv", "jsonl", "parquet"))
    csv.write_text("user_id,country,tags,follows,birth_year\nann,GB,cats|sea,lou,1990\nbo,,,,\n")
    lines.write_text(
        '{"user_id":"ann","country":"GB","tags":["cats","sea"],"follows":["lou"],'
        '"birth_year":1990}\n\n{"user_id":"bo"}\n'
    )
    columns = {
        "user_id": ["ann", "bo"],
        "country": ["GB", None],
        "tags": [["cats", "sea"], None],
        "follows": [["lou"], None],
        "birth_year": [1990, None],
    }
    pq.write_table(pa.table(columns), parquet)
    for path in (csv, lines, parquet):
        assert read(path) == [("ann", ANN), ("bo", Profile())]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\nann\n", "column 'user_id': expected this column, got name"),
        ("user_id,age\nann,3\n", "column 'age': expected columns of user_id, country"),
        ("user_id\nann\nann\n", "line 3, column 'user_id': expected each id once, got 'ann'"),
        ("user_id,country\nann,Britain\n", "line 2, column 'country': expected"),
        ("user_id,birth_year\nann,young\n", "line 2, column 'birth_year': expected"),
        ('user_id,tags\nann,"[""a""]"\n', "expected values separated by |, as in a|b"),
        ("user_id\n\n", "line 2: expected 1 cells, got 0"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(BadFile) as raised:
        read(path)
    assert says in str(raised.value)
