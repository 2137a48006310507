import numpy as np
import pytest

from env.calibration.random_effects import PersonBlock
from env.vocabulary import Floats

N_DIMS = 4


def block(n_rows: int, seed: int) -> tuple[PersonBlock, Floats, Floats]:
    """Return users with as many rows each, weights and working responses."""
    rng = np.random.default_rng(seed)
    n = 30 * n_rows
    user = np.repeat(np.arange(30), n_rows)
    made = PersonBlock(rng.normal(size=(n, N_DIMS)), user, lean_sd=0.5, taste_sd=0.7)
    return made, rng.uniform(0.05, 0.25, n), rng.normal(size=n)


@pytest.mark.parametrize("n_rows", [2, 4, 5, 40])
def test_users_of_few_and_of_many_rows_are_solved_alike(n_rows: int) -> None:
    made, w, z = block(n_rows, seed=n_rows)
    rows = np.arange(len(z)).reshape(30, n_rows)
    for one, other in zip(
        made._solve_dual(rows, w[rows], z[rows]),
        made._solve_primal(rows, w[rows], z[rows]),
        strict=True,
    ):
        assert np.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_the_variance_of_leans_comes_back() -> None:
    rng = np.random.default_rng(7)
    user = np.repeat(np.arange(2_000), 12)
    vectors = rng.normal(size=(len(user), N_DIMS))
    lean = 0.6 * rng.normal(size=2_000)
    taste = 0.7 * rng.normal(size=(2_000, N_DIMS))
    w = np.full(len(user), 0.25)
    z = lean[user] + np.einsum("ij,ij->i", vectors, taste[user])
    z += rng.normal(size=len(z)) / w**0.5
    made = PersonBlock(vectors, user, lean_sd=0.3, taste_sd=0.7)
    for _ in range(60):
        made.move(w, z)
    assert made.lean_sd == pytest.approx(0.6, abs=0.06)
