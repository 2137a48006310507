"""Short runs of the study: dwells are of the kind that the file says, and both parts measure."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from histories import config_of
from kuairands import N_ITEMS, N_USERS, write_kuairand

from serve.importers import kuairand
from tests.studies.collaborative.history import FILE
from tests.studies.history.april import IMPORTED_MS, read_history
from tests.studies.history.gain import GainSize, run_gain
from tests.studies.history.speed import run_speed

LENGTH = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small KuaiRand folder with a history file."""
    folder, rng = write_kuairand(tmp_path), np.random.default_rng(5)
    watched = [rng.permutation(N_ITEMS)[:LENGTH].tolist() for _ in range(N_USERS)]
    data = kuairand.read(folder)
    users = [int(user_id) for user_id, _ in data.users]
    ids = [int(item.item_id) for item in data.items]
    named = [[ids[k] for k in row] for row in watched]
    columns = {
        "user_id": users,
        "last_time_ms": [IMPORTED_MS - 1_000 * k for k in range(N_USERS)],
        "watch_seq": named,
        "like_seq": [row[:1] for row in named],
        "long_watch_seq": [row[: LENGTH // 2] for row in named],
    }
    pq.write_table(pa.table(columns), folder / FILE)
    return folder


def test_a_history_has_dwells_as_long_as_the_file_says(folder: Path) -> None:
    views = read_history(folder / FILE, kuairand.read(folder))
    assert len(views) == N_USERS * LENGTH
    first = np.tile(np.arange(LENGTH), N_USERS)
    np.testing.assert_array_equal(views.long_view(), first < LENGTH // 2)
    np.testing.assert_array_equal(views.like, first == 0)
    by_user = views.at_ms.reshape(N_USERS, LENGTH)
    assert (np.diff(by_user, axis=1) > 0).all()
    assert by_user.max() <= IMPORTED_MS


def test_the_gain_is_measured_over_the_same_users(folder: Path, tmp_path: Path) -> None:
    size = GainSize(seeds=2, users=8, cards=6, page=3, shard=4)
    config = config_of(tmp_path / "unused")
    told: list[tuple[str, int, int]] = []
    result = run_gain(
        folder, size, seed=1, config=config, work=tmp_path / "w", advance=lambda *a: told.append(a)
    )
    assert told[-1] == ("worlds", 2, 2)
    assert result.warm_gain_low < result.warm_gain
    assert len(result.gains) == 2
    assert 0.0 < result.auc_world < 1.0
    assert f"{N_USERS * LENGTH:,} views of {N_USERS:,} users" in result.imported


def test_the_speed_is_that_of_the_command(tmp_path: Path) -> None:
    config = config_of(tmp_path / "unused")
    result = run_speed(2_000, seed=1, config=config, work=tmp_path / "w")
    assert (result.views, result.repeated_views) == (2_000, 2_000)
    assert result.seconds > 0.0
    assert result.rss_mb > 10.0
