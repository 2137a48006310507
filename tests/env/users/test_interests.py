"""An interest is a posterior mean: a match means the same however much is known of a user."""

import math

import numpy as np
import pytest

from env.columns.schema import VECTOR_DIM
from env.users.interests import (
    DIRECTIONS,
    MAX_LENGTH,
    NO_INTEREST,
    RIDGE,
    add_interest,
    read_interest,
)
from env.vocabulary import Floats

N_PEOPLE = 600
N_ITEMS = 40
D = int(DIRECTIONS)
SIGNAL_SD = math.sqrt(0.2)
TASTE_SD = SIGNAL_SD / math.sqrt(RIDGE)


def contents(rng: np.random.Generator, n: int) -> Floats:
    """Return unit vectors that spread evenly over the first D directions, (n, VECTOR_DIM)."""
    vectors = np.zeros((n, VECTOR_DIM))
    vectors[:, :D] = rng.normal(size=(n, D))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def matches_and_affinities(n_answers: int) -> tuple[Floats, Floats]:
    """Return what is expected of items after some answers, and the truth, (N_PEOPLE, N_ITEMS)."""
    rng = np.random.default_rng(n_answers)
    items = contents(rng, N_ITEMS)
    matches, affinities = np.zeros((2, N_PEOPLE, N_ITEMS))
    for user in range(N_PEOPLE):
        taste = np.zeros(VECTOR_DIM)
        taste[:D] = rng.normal(scale=TASTE_SD, size=D)
        total = NO_INTEREST
        for card in contents(rng, n_answers):
            signal = float(card @ taste) + rng.normal(scale=SIGNAL_SD)
            total = add_interest(total, 1.0, signal, card.astype("<f2").tobytes())
        matches[user] = items @ read_interest(total, float(n_answers))
        affinities[user] = items @ taste
    return matches, affinities


@pytest.mark.parametrize("n_answers", [8, 20, 100])
@pytest.mark.slow
def test_a_match_is_worth_what_it_says_after_few_answers_and_after_many(n_answers: int) -> None:
    matches, affinities = matches_and_affinities(n_answers)
    square, product = (matches**2).sum(1), (matches * affinities).sum(1)
    slope = float(product.sum() / square.sum())
    by_user = product - slope * square
    se = math.sqrt(float((by_user**2).sum())) / float(square.sum())
    # A slope of 1, were the user's own cards spread as evenly as I / d; random ones are not, and
    # E[(sum x x')^2] = n (n - 1) / d^2 I + n / d I.
    precision = RIDGE + n_answers / DIRECTIONS
    assert slope == pytest.approx(precision / (precision + 1.0 - 1.0 / DIRECTIONS), abs=4.0 * se)
    assert se < 0.1


def test_an_interest_is_cut_to_its_greatest_length_and_keeps_its_direction() -> None:
    vector = np.zeros(VECTOR_DIM, dtype="<f2")
    vector[3] = 1.0
    far = add_interest(NO_INTEREST, 1.0, 1e6, vector.tobytes())
    expected = np.zeros(VECTOR_DIM)
    expected[3] = MAX_LENGTH
    assert read_interest(far, 0.0) == pytest.approx(expected)
