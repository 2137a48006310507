from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from env.vocabulary import Item, Profile
from serve.errors import BadFile
from serve.importers import kuairand

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand_pure"
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,video_duration,music_id,tag\n"
    '0,70,NORMAL,2022-04-10,87433.0,91,"39,12"\n'
    "1,71,AD,2022-04-09,,0,\n"
)
USERS = (
    "user_id,user_active_degree,is_live_streamer,is_video_author,register_days\n"
    "5,full_active,-124,1,10\n"
    "6,low_active,1,0,1000\n"
)
LOG = (
    ",".join(kuairand.LOG_COLUMNS)
    + "\n6,1,2000,1,9000,0,0,0,0,0,1\n5,0,1000,4,500,87433,1,0,1,0,0\n"
)


def write(folder: Path, videos: str = VIDEOS, users: str = USERS, log: str = LOG) -> Path:
    (folder / "video_features_basic_pure.csv").write_text(videos, encoding="utf-8")
    (folder / "user_features_pure.csv").write_text(users, encoding="utf-8")
    (folder / "log_standard_4_22_to_5_08_pure.csv").write_text(log, encoding="utf-8")
    return folder


@pytest.mark.skipif(not KUAIRAND.is_dir(), reason="KuaiRand is not at ../shared/data")
def test_all_of_kuairand_is_read() -> None:
    data = kuairand.read(KUAIRAND)
    assert (len(data.items), len(data.users), len(data.impressions)) == (7_583, 27_285, 91_805)
    assert sum(item.duration_s is None for item in data.items) == 239
    assert sum(not item.tags for item in data.items) == 96
    assert Counter(profile.cohort for _, profile in data.users)["full_active"] == 17_959
    assert int(data.impressions.like.sum()) == 1_602
    assert len(data.impressions.since(kuairand.LAST_DAY_MS)) == 20_361


def test_the_fields_of_kuairand_become_those_of_items_and_profiles(tmp_path: Path) -> None:
    data = kuairand.read(write(tmp_path))
    assert data.items[0] == Item(
        item_id=data.items[0].item_id,
        creator=data.items[0].creator,
        title="Topic 39 and 12: video 0",
        tags=("t39", "t12"),
        duration_s=87.433,
        published_ms=1_649_520_000_000,  # midnight in Shanghai is 16:00 in London
        language="zh",
        country="CN",
        sound="91",
    )
    assert (data.items[0].item_id, data.items[0].creator) == ("0", "70")
    assert (data.items[1].duration_s, data.items[1].tags, data.items[1].sound) == (None, (), "")
    assert data.users[0] == (
        "5",
        Profile(
            country="CN",
            language="zh",
            cohort="full_active",
            tags=("author",),
            registered_ms=kuairand.LAST_DAY_MS - 10 * 86_400_000,
        ),
    )
    assert data.users[1][1].tags == ("streamer",)


def test_impressions_come_in_order_of_time_and_refer_by_position(tmp_path: Path) -> None:
    shown = kuairand.read(write(tmp_path)).impressions
    assert shown.at_ms.tolist() == [1000, 2000]
    assert shown.user.tolist() == [0, 1]
    assert shown.item.tolist() == [0, 1]
    assert shown.play_s.tolist() == [0.5, 9.0]
    assert shown.duration_s.tolist() == [87.433, 0.0]
    assert (shown.like[0], shown.share[0], shown.not_interested[1]) == (True, True, True)


def test_a_log_in_parquet_is_the_same_as_one_in_csv(tmp_path: Path) -> None:
    folder = write(tmp_path)
    expected = kuairand.read(folder).impressions
    (folder / "log_standard_4_22_to_5_08_pure.csv").unlink()
    header, *lines = LOG.split()
    rows = [[int(cell) for cell in line.split(",")] for line in lines]
    columns = dict(zip(header.split(","), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "log_standard.parquet")
    found = kuairand.read(folder).impressions
    assert found.at_ms.tolist() == expected.at_ms.tolist()
    assert found.play_s.tolist() == expected.play_s.tolist()


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("videos", "87433.0", "long", "line 2, column 'video_duration': expected milliseconds"),
        ("videos", "87433.0", "nan", "line 2, column 'video_duration': expected milliseconds"),
        ("videos", "2022-04-09", "april", "line 3, column 'upload_dt': expected a date like"),
        ("videos", "\n1,71", "\n0,71", "line 3: expected each id once, got 0 again"),
        ("videos", "1,71,AD", "1,71", "line 3: expected 7 cells, got 6"),
        ("videos", "author_id", "author", "line 1, column 'author_id': expected this column"),
        ("users", "\n6,", "\nx,", "line 3, column 'user_id': expected a whole number"),
        ("users", ",10\n", ",ten\n", "line 2, column 'register_days': expected days"),
        ("log", "6,1,2000", "7,1,2000", "line 2, column 'user_id': expected a known id, got 7"),
        ("log", "5,0,1000", "5,9,1000", "line 3, column 'video_id': expected a known id, got 9"),
        ("log", "2000,1,9000", "2000,1,-1", "line 2, column 'play_time_ms': expected a whole"),
        ("log", ",1,0,1,0,0\n", ",2,0,1,0,0\n", "line 3, column 'is_like': expected 0 or 1, got 2"),
        ("log", "tab", "video_id", "line 1, column 'video_id': expected each column once"),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_column(
    tmp_path: Path, part: str, old: str, new: str, message: str
) -> None:
    texts = {"videos": VIDEOS, "users": USERS, "log": LOG}
    assert old in texts[part]
    texts[part] = texts[part].replace(old, new, 1)
    write(tmp_path, **texts)
    with pytest.raises(BadFile) as caught:
        kuairand.read(tmp_path)
    assert message in str(caught.value)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "log_standard_4_22_to_5_08_pure.csv").unlink()
    with pytest.raises(BadFile, match=r"expected a log_standard\*"):
        kuairand.read(tmp_path)
    with pytest.raises(BadFile, match=r"expected one video_features_basic\*.csv, got 0"):
        kuairand.read(tmp_path / "nowhere")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "log_standard.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(BadFile, match="expected Parquet"):
        kuairand.read(tmp_path)
    with pytest.raises(BadFile, match=r"nowhere\.parquet: there is no such file"):
        kuairand.read_log(tmp_path / "nowhere.parquet")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "user_features_pure.csv").write_bytes(b"user_id\n\xff\n")
    with pytest.raises(BadFile, match="expected UTF-8, got byte 0xff"):
        kuairand.read(tmp_path)
