"""Items seen for ever: packing is exact, order is kept, few unseen items count as seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from env.records import item_key
from env.users.seen import (
    FINGERPRINT_BITS,
    LEAST_SET,
    MAX_RECENT,
    SLACK,
    Seen,
    fingerprints,
    pack,
    see,
    unpack,
)

DAY_MS = 86_400_000
JANUARY_MS = 1_767_225_600_000


def keys(n: int, begin: int = 0) -> list[int]:
    return [item_key(f"item {k}") for k in range(begin, begin + n)]


def seen_of(items: list[int], at_ms: int = JANUARY_MS, start: Seen | None = None) -> Seen:
    seen = start or Seen()
    for key in items:
        seen = see(seen, key, at_ms)
    return seen


def short(items: list[int]) -> np.ndarray:
    return np.array(items, dtype=np.uint64).astype(np.uint32)


def knows(seen: Seen, items: list[int]) -> np.ndarray:
    """Return which items are in the ring or in a set."""
    ring = np.frombuffer(seen.ring, dtype="<u4")
    known = np.isin(short(items), ring)
    for some in seen.sets:
        known |= np.isin(fingerprints(short(items)), unpack(some.packed, some.n))
    return known


@given(st.sets(st.integers(0, 2**FINGERPRINT_BITS - 1), min_size=1, max_size=300))
def test_what_is_packed_comes_back(values: set[int]) -> None:
    ascending = np.array(sorted(values), dtype=np.uint32)
    assert unpack(pack(ascending), len(ascending)).tolist() == sorted(values)


@pytest.mark.parametrize("n", [1, 2, 255, 256, LEAST_SET, 9_001])
def test_a_set_takes_no_more_bits_than_its_formula(n: int) -> None:
    values = np.unique(fingerprints(short(keys(n))))
    n = len(values)
    bits = FINGERPRINT_BITS - (n.bit_length() - 1) + 2
    assert 8 * len(pack(values)) <= n * bits + 16


def test_nothing_is_forgotten_and_hardly_anything_is_made_up() -> None:
    items = keys(6_000)
    seen = seen_of(items)
    assert knows(seen, items).all()
    others = knows(seen, keys(100_000, begin=6_000))
    assert 0.0 < others.mean() < 4 * 6_000 / 2**FINGERPRINT_BITS


def test_the_ring_keeps_the_latest_in_order_and_an_item_that_came_again_is_the_latest() -> None:
    items = keys(MAX_RECENT + SLACK)
    seen = seen_of(items)
    assert (len(seen.ring) // 4, seen.sets) == (MAX_RECENT + SLACK, ())
    again = see(seen, items[0], JANUARY_MS)
    assert np.frombuffer(again.ring, dtype="<u4").tolist() == short(items[1:] + items[:1]).tolist()
    over = see(again, item_key("another"), JANUARY_MS)
    assert len(over.ring) // 4 == MAX_RECENT
    assert [some.n for some in over.sets] == [SLACK + 1]


def test_a_set_closes_with_its_month_once_it_holds_enough() -> None:
    items = keys(4 * LEAST_SET)
    few = seen_of(items[: LEAST_SET // 2])
    february = seen_of(items[LEAST_SET // 2 : 3 * LEAST_SET], JANUARY_MS + 40 * DAY_MS, few)
    assert len(february.sets) == 1
    march = seen_of(items[3 * LEAST_SET :], JANUARY_MS + 70 * DAY_MS, february)
    assert len(march.sets) == 2
    assert march.sets[0] == february.sets[0]
    assert march.sets[0].month + 1 == march.sets[1].month
    assert knows(march, items).all()
