"""Columns, sets and groups of indices: what keeps a page from passing over all items."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from env.arrays.growing import grown, with_room
from env.arrays.index_sets import distinct, first_indices, is_among
from env.items.orders import Groups


def test_a_column_that_grows_keeps_its_rows_and_is_copied_rarely() -> None:
    column, n_copies = with_room(0, np.int64), 0
    for n in range(1, 20_000):
        longer = grown(column, n)
        n_copies += not np.shares_memory(longer, column) and n > 1
        longer[n - 1] = n
        column = longer
    assert column.tolist() == list(range(1, 20_000))
    assert n_copies < 25


@pytest.mark.parametrize(
    "other", [np.zeros((3, 2)), np.zeros(3, dtype=np.int8), np.arange(9.0)[5:]]
)
def test_a_column_that_has_no_room_is_copied(other: npt.NDArray[Any]) -> None:
    longer = grown(other, 5)
    assert (len(longer), longer.dtype) == (5, other.dtype)
    assert not np.shares_memory(longer, other)
    assert np.array_equal(longer[: len(other)], other)


def test_sets_are_what_numpy_says_they_are() -> None:
    rng = np.random.default_rng(1)
    for n, highest in [(0, 5), (1, 5), (300, 50), (300, 10**9)]:
        codes = rng.integers(0, highest, n)
        some = rng.integers(0, highest, n // 2)
        assert distinct(codes).tolist() == np.unique(codes).tolist()
        assert is_among(codes, some).tolist() == np.isin(codes, some).tolist()
        firsts = np.sort(np.unique(codes, return_index=True)[1])
        assert first_indices(codes).tolist() == firsts.tolist()


def test_a_group_holds_all_that_ever_had_its_code() -> None:
    groups = Groups()
    for index, code in enumerate([3, 0, 3, 5, 3]):
        groups.put(code, index)
    assert sorted(groups.had([3]).tolist()) == [0, 2, 4]
    assert sorted(groups.had([5, 0]).tolist()) == [1, 3]
    assert groups.had([4, 99, -1]).tolist() == []
