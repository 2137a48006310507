"""Explorers: pmfs that can be checked by hand, and what every pmf has to be."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.vocabulary import Bools, Floats
from policies.explorers import (
    AnyExplorer,
    Epsilon,
    Greedy,
    Mixed,
    Softmax,
    SquareCB,
    Uniform,
    explorer_args,
    explorer_from,
    has_support,
)

EXPLORERS: list[AnyExplorer] = [
    Uniform(),
    Greedy(),
    Epsilon(0.0),
    Epsilon(0.3),
    Epsilon(1.0),
    Softmax(0.1),
    Softmax(1e-3),
    Softmax(1e9),
    SquareCB(0.0),
    SquareCB(200.0),
    SquareCB(1e9),
    Mixed((Uniform(), Softmax(0.1)), (0.2, 0.8)),
    Mixed((Mixed((Greedy(), Uniform()), (0.5, 0.5)), SquareCB()), (0.0, 1.0)),
]
SCORES = np.array([0.5, 0.1, 0.3, 0.9])
MASK = np.array([True, True, True, False])


@pytest.mark.parametrize(
    ("explorer", "pmf"),
    [
        (Uniform(), [1 / 3, 1 / 3, 1 / 3, 0]),
        (Greedy(), [1, 0, 0, 0]),
        (Epsilon(0.3), [0.8, 0.1, 0.1, 0]),
        (SquareCB(10.0), [1 - 1 / 7 - 1 / 5, 1 / 7, 1 / 5, 0]),
        (SquareCB(0.0), [1 / 3, 1 / 3, 1 / 3, 0]),
        (Softmax(0.2), [*np.exp([2.5, 0.5, 1.5]) / np.exp([2.5, 0.5, 1.5]).sum(), 0]),
        (Mixed((Greedy(), Uniform()), (0.7, 0.3)), [0.8, 0.1, 0.1, 0]),
    ],
)
def test_a_pmf_is_what_the_formula_says(explorer: AnyExplorer, pmf: list[float]) -> None:
    assert explorer.pmf(SCORES, MASK) == pytest.approx(pmf, abs=1e-12)


def test_greedy_shares_a_tie() -> None:
    assert Greedy().pmf(np.array([1.0, 2.0, 2.0]), np.ones(3, dtype=np.bool_)).tolist() == [
        0,
        0.5,
        0.5,
    ]


@st.composite
def slots(draw: st.DrawFn) -> tuple[Floats, Bools]:
    n = draw(st.integers(1, 60))
    scores = draw(st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n))
    mask = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=np.bool_)
    mask[draw(st.integers(0, n - 1))] = True
    return np.array(scores), mask


@pytest.mark.parametrize("explorer", EXPLORERS, ids=str)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(slot=slots())
def test_every_explorer_gives_a_pmf_on_the_mask(
    explorer: AnyExplorer, slot: tuple[Floats, Bools]
) -> None:
    scores, mask = slot
    kept_scores, kept_mask = scores.copy(), mask.copy()

    pmf = explorer.pmf(scores, mask)

    assert pmf.shape == mask.shape
    assert pmf.dtype == np.float64
    assert pmf.min() >= 0.0
    assert not pmf[~mask].any()
    assert abs(float(pmf.sum()) - 1.0) <= 1e-12
    assert np.array_equal(explorer.pmf(scores, mask), pmf)
    assert np.array_equal(scores, kept_scores)
    assert np.array_equal(mask, kept_mask)


@pytest.mark.parametrize("explorer", EXPLORERS, ids=str)
@pytest.mark.parametrize("extreme", [1.0, 1e6, 1e250])
def test_an_explorer_with_support_leaves_nobody_of_the_mask_out(
    explorer: AnyExplorer, extreme: float
) -> None:
    scores = np.array([0.0, 1e-9, -extreme, extreme, extreme / 2, extreme])
    mask = np.array([True, True, True, True, True, False])

    pmf = explorer.pmf(scores, mask)

    assert (pmf[mask] > 0.0).all() == has_support(explorer)


@pytest.mark.parametrize(
    ("explorer", "expected"),
    [
        (Epsilon(1e-9), True),
        (Softmax(1e-9), True),
        (Mixed((Greedy(), Epsilon(0.0)), (0.5, 0.5)), False),
        (Mixed((Greedy(), Uniform()), (1.0, 0.0)), False),
        (Mixed((Greedy(), Mixed((Greedy(), Uniform()), (0.5, 0.5))), (0.5, 0.5)), True),
    ],
)
def test_a_mixture_has_support_where_a_part_that_counts_has(
    explorer: AnyExplorer, expected: bool
) -> None:
    pmf = explorer.pmf(SCORES, MASK)

    assert has_support(explorer) == (pmf[MASK] > 0.0).all() == expected


@pytest.mark.parametrize("explorer", EXPLORERS, ids=str)
def test_a_better_score_is_never_less_likely(explorer: AnyExplorer) -> None:
    pmf = explorer.pmf(np.linspace(0.0, 1.0, 11), np.ones(11, dtype=np.bool_))

    assert (np.diff(pmf) >= -1e-12).all()


@pytest.mark.parametrize("explorer", EXPLORERS, ids=str)
def test_what_is_off_the_mask_has_no_influence(explorer: AnyExplorer) -> None:
    mask = np.array([True, False, True, True])
    one, other = np.array([0.1, 9.0, 0.2, 0.3]), np.array([0.1, -9.0, 0.2, 0.3])

    assert np.array_equal(explorer.pmf(one, mask), explorer.pmf(other, mask))


@pytest.mark.parametrize("explorer", EXPLORERS, ids=str)
def test_logged_arguments_build_the_same_explorer(explorer: AnyExplorer) -> None:
    args = explorer_args(explorer)
    logged = msgspec.msgpack.decode(msgspec.msgpack.encode(args))

    assert explorer_from(args) == explorer_from(logged) == explorer
    assert logged == args


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kind": "epsilon", "epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"kind": "epsilon", "epsilon": float("nan")}, "epsilon must be in"),
        ({"kind": "softmax", "temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"kind": "softmax", "temperature": float("nan")}, "temperature must be above 0"),
        ({"kind": "squarecb", "gamma": -1.0}, "gamma must be at least 0 and finite"),
        ({"kind": "squarecb", "gamma": float("inf")}, "gamma must be at least 0 and finite"),
        ({"kind": "mixed", "parts": [], "weights": []}, "weights must be"),
        ({"kind": "mixed", "parts": [{"kind": "uniform"}], "weights": [0.5]}, "weights must be 1"),
        (
            {"kind": "mixed", "parts": [{"kind": "uniform"}], "weights": [0.5, 0.5]},
            "weights must be 1 numbers",
        ),
        (
            {"kind": "mixed", "parts": [{"kind": "uniform"}] * 2, "weights": [1.5, -0.5]},
            "weights must be 2 numbers of at least 0 that sum to 1",
        ),
        ({"kind": "regcb"}, "regcb"),
        ({}, "kind"),
    ],
)
def test_arguments_out_of_range_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        explorer_from(args)
