"""Tables of rounds: what is in them becomes a Source, and what is wrong is refused by its cell."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.join.rows import CoverageCounts
from replay.source import MAX_ACTIONS
from serve.errors import BadFile
from serve.importers.obp import ObpSource
from serve.importers.tables import BLOCK_ROWS, column_names, read_blocks

Table = Mapping[str, Sequence[object]]
Writer = Callable[..., Path]
ROUNDS: Table = {
    "action": [0, 2, 1],
    "position": [0, 1, 2],
    "reward": [1.0, 0.0, 0.5],
    "pscore": [0.5, 0.25, 0.2],
    "context_0": [0.1, 0.2, 0.3],
    "context_1": [1.0, 2.0, 3.0],
    "pi_b_0": [0.5, 0.25, 0.4],
    "pi_b_1": [0.25, 0.5, 0.2],
    "pi_b_2": [0.25, 0.25, 0.4],
    "user": ["ann", "bob", "ann"],
    "n_rounds": [3, 3, 3],
    "n_actions": [3, 3, 3],
}
BARE: Table = {name: ROUNDS[name] for name in ("action", "reward", "pscore")}


def with_row(table: Table, row: int, **cells: object) -> Table:
    """Return the table with other cells in a row."""
    changed = {name: list(values) for name, values in table.items()}
    for name, value in cells.items():
        changed[name][row] = value
    return changed


def csv_of(folder: Path, table: Table, name: str = "log.csv") -> Path:
    path = folder / name
    rows = zip(*table.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, cells)) for cells in (tuple(table), *rows)) + "\n")
    return path


def parquet_of(folder: Path, table: Table, name: str = "log.parquet") -> Path:
    path = folder / name
    pq.write_table(pa.table({column: list(cells) for column, cells in table.items()}), path)
    return path


@pytest.mark.parametrize("write", [csv_of, parquet_of])
def test_a_round_is_a_decision(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path, ROUNDS)
    write(tmp_path, {"x": [1.0, 2.0, 3.0]}, f"log.action_context{path.suffix}")
    source = ObpSource(path)
    (batch,) = source.batches()
    assert batch.action.tolist() == ROUNDS["action"]
    assert batch.slot.tolist() == ROUNDS["position"]
    assert batch.reward.tolist() == ROUNDS["reward"]
    assert batch.propensity.tolist() == ROUNDS["pscore"]
    assert batch.user.tolist() == [0, 1, 0]
    assert batch.mask.shape == (3, 3)
    assert batch.mask.all()
    assert batch.context is not None
    assert batch.context.tolist() == [[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]]
    assert batch.action_context is not None
    assert batch.action_context.tolist() == [[1.0], [2.0], [3.0]]
    assert batch.pmf is not None
    assert batch.pmf[1].tolist() == [0.25, 0.5, 0.25]
    assert source.coverage == CoverageCounts(3, 3, 0, unnamed=0)


def test_a_bare_table_has_as_many_candidates_as_its_actions_show(tmp_path: Path) -> None:
    (batch,) = ObpSource(csv_of(tmp_path, BARE)).batches()
    assert batch.mask.shape == (3, 3)
    assert batch.slot.tolist() == [0, 0, 0]
    assert batch.user.tolist() == [0, 1, 2]
    assert batch.pmf is batch.context is batch.action_context is None
    assert not batch.draws.eligible.any()


def test_a_table_without_users_says_so(tmp_path: Path) -> None:
    source = ObpSource(csv_of(tmp_path, BARE))
    list(source.batches())
    assert source.coverage == CoverageCounts(3, 3, 0, unnamed=3)


def test_many_candidates_come_in_smaller_batches(tmp_path: Path) -> None:
    table = with_row(BARE, 0, action=MAX_ACTIONS - 1)
    batches = list(
        ObpSource(csv_of(tmp_path, {c: list(v) * 20 for c, v in table.items()})).batches()
    )
    assert [len(batch) for batch in batches] == [40, 20]
    assert {batch.mask.shape[1] for batch in batches} == {MAX_ACTIONS}


def test_a_long_table_comes_in_batches(tmp_path: Path) -> None:
    n = BLOCK_ROWS + 7
    path = csv_of(tmp_path, {name: [values[0]] * n for name, values in BARE.items()})
    batches = list(ObpSource(path).batches())
    assert [len(batch) for batch in batches] == [BLOCK_ROWS, 7]
    users = np.concatenate([batch.user for batch in batches])
    np.testing.assert_array_equal(users, np.arange(n))


@pytest.mark.parametrize("write", [csv_of, parquet_of])
@pytest.mark.parametrize(
    ("table", "line", "column", "problem"),
    [
        (with_row(BARE, 1, pscore=0.0), 2, "pscore", "expected a propensity in (0, 1], got 0"),
        (with_row(BARE, 1, pscore=1.5), 2, "pscore", "expected a propensity in (0, 1], got 1.5"),
        (with_row(BARE, 1, pscore=-0.5), 2, "pscore", "expected a propensity in (0, 1], got -0.5"),
        (with_row(BARE, 2, reward=float("nan")), 3, "reward", "expected a finite number, got "),
        (with_row(BARE, 2, reward=float("inf")), 3, "reward", "expected a finite number, got "),
        (
            with_row(ROUNDS, 1, action=3),
            2,
            "action",
            "expected one of 3 candidates, 0 to 2, got 3",
        ),
        (
            with_row(BARE, 0, action=-1),
            1,
            "action",
            "expected a whole number from 0 to 99999, got -1",
        ),
        (
            with_row(BARE, 0, action=0.5),
            1,
            "action",
            "expected a whole number from 0 to 99999, got 0.5",
        ),
        (
            with_row(BARE, 0, action=1e12),
            1,
            "action",
            "expected a whole number from 0 to 99999, got 1e+12",
        ),
        (
            with_row(ROUNDS, 0, n_actions=1e12),
            1,
            "n_actions",
            "expected a whole number from 1 to 100000, got 1e+12",
        ),
        (
            with_row(ROUNDS, 2, position=1e9),
            3,
            "position",
            "expected a whole number from 0 to 999, got 1e+09",
        ),
        (
            with_row(ROUNDS, 1, pi_b_0=0.3),
            2,
            "pi_b",
            "expected probabilities that sum to 1, got 1.05",
        ),
        (with_row(ROUNDS, 1, pi_b_0=-0.3), 2, "pi_b_0", "expected a probability in [0, 1], got -0"),
        (
            with_row(ROUNDS, 1, pscore=0.5),
            2,
            "pscore",
            "expected the probability that pi_b gives the action, got 0.5",
        ),
        (with_row(ROUNDS, 1, n_actions=4), 2, "n_actions", "expected 3 in every row, got 4"),
        (
            with_row(ROUNDS, 2, n_rounds=5),
            3,
            "n_rounds",
            "expected as many rounds as rows, 3, got 5",
        ),
        (
            with_row(ROUNDS, 1, position=-1),
            2,
            "position",
            "expected a whole number from 0 to 999, got -1",
        ),
    ],
)
def test_a_wrong_cell_is_refused_with_its_line_and_column(
    write: Writer, table: Table, line: int, column: str, problem: str, tmp_path: Path
) -> None:
    path = write(tmp_path, table)
    with pytest.raises(BadFile, match=re.escape(problem)) as caught:
        list(ObpSource(path).batches())
    header = path.suffix == ".csv"  # an editor counts it
    assert (caught.value.line, caught.value.column) == (line + header, column)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("action,reward\n0,1\n", "line 1, column 'pscore': expected this column, got action, rew"),
        ("action,reward,pscore,click\n0,1,1,1\n", "line 1, column 'click': expected columns of"),
        ("action,reward,pscore\n0,1,\n", "line 2, column 'pscore': expected a finite number, got"),
        ("action,reward,pscore\n0,yes,1\n", "line 2, column 'reward': expected a finite number, "),
        ("action,reward,pscore\n0,1,1\n0,1", "line 3: expected 3 cells, got 2"),
        ("action,reward,pscore,pi_b_1\n0,1,1,1\n", "line 1: expected pi_b_0 to pi_b_0, got"),
        ("action,reward,pscore,pi_b_0,n_actions\n0,1,1,1,2\n", "expected one number of candidates"),
        ("action,reward,pscore\n", "expected rows, found none"),
    ],
)
def test_a_table_that_is_none_of_rounds_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(BadFile, match=re.escape(message)):
        list(ObpSource(path).batches())


def test_a_parquet_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, BARE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadFile, match=r"expected Parquet, but .*; was the file cut"):
        ObpSource(path)
    with pytest.raises(BadFile, match=r"nowhere\.parquet: there is no such file"):
        ObpSource(tmp_path / "nowhere.parquet")


def test_a_parquet_column_must_hold_numbers_and_none_may_be_missing(tmp_path: Path) -> None:
    empty = parquet_of(tmp_path, with_row(BARE, 1, pscore=None))
    with pytest.raises(BadFile, match="line 2, column 'pscore': expected a finite number, got N"):
        list(ObpSource(empty).batches())
    texts = parquet_of(tmp_path, {**BARE, "reward": ["much", "no", "some"]})
    with pytest.raises(BadFile, match="column 'reward': expected numbers, got string"):
        list(ObpSource(texts).batches())
    with pytest.raises(BadFile, match="column 'missing': expected this column, got action"):
        list(read_blocks(empty, ["missing"]))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"expected one of \.csv and \.parquet, got '\.txt'"):
        column_names(tmp_path / "log.txt")
