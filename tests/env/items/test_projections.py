"""Projections of embeddings: what they keep, how they follow one another, and their record."""

import numpy as np
import pytest

from env.columns.schema import CONTENT_DIM, VECTOR_DIM
from env.items.content import ContentEncoder, encoded, vector
from env.items.projections import (
    NO_PROJECTIONS,
    UNLEARNED,
    Projection,
    learned_projection,
    second_moment_of_tastes,
)
from env.records import ProjectionRecord, decode_record, encode_record
from env.vocabulary import Float32s, Floats, Item, ItemId

M = 200
"""Numbers of an embedding here."""


def clustered(seed: int, n: int, n_subjects: int = 60, noise: float = 1.6) -> Float32s:
    """Return unit embeddings around the centres of subjects; item k has subject k % n_subjects."""
    centres = np.random.default_rng(1).standard_normal((n_subjects, M))
    rng = np.random.default_rng(seed)
    rows = centres[np.arange(n) % n_subjects] + noise * rng.standard_normal((n, M))
    unit: Float32s = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)
    return unit


def first(embeddings: Float32s) -> Projection:
    return learned_projection(embeddings, NO_PROJECTIONS.of("vector", M), number=2)


def images(projection: Projection, embeddings: Float32s) -> Floats:
    found: Floats = embeddings.astype(np.float64) @ projection.weights.T
    return found


def nearest(rows: Floats) -> Floats:
    """Return the share of rows whose nearest other row has their subject."""
    unit = rows / np.linalg.norm(rows, axis=1)[:, None]
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2.0)
    subject = np.arange(len(rows)) % 60
    return np.asarray(np.mean(subject[cosine.argmax(axis=1)] == subject))


def test_a_learned_projection_keeps_neighbours_that_random_signs_lose() -> None:
    embeddings = clustered(2, 900)
    by_signs = nearest(images(NO_PROJECTIONS.of("vector", M), embeddings))
    learned = nearest(images(first(embeddings), embeddings))
    assert learned >= nearest(embeddings.astype(np.float64)) - 0.01
    assert learned > by_signs + 0.03


def test_its_rows_are_orthonormal_and_the_first_are_the_principal_ones() -> None:
    embeddings = clustered(2, 900)
    weights = first(embeddings).weights
    assert weights @ weights.T == pytest.approx(np.eye(CONTENT_DIM), abs=1e-9)
    kept = (images(first(embeddings), embeddings) ** 2).sum(axis=0)
    values = np.linalg.eigvalsh((embeddings.T @ embeddings).astype(np.float64))[::-1]
    assert kept[:VECTOR_DIM].sum() == pytest.approx(values[:VECTOR_DIM].sum(), rel=1e-4)
    assert kept[VECTOR_DIM:].sum() == pytest.approx(values[VECTOR_DIM:CONTENT_DIM].sum(), rel=1e-4)


def test_the_next_projection_is_turned_to_agree_with_the_one_before() -> None:
    before = first(clustered(2, 900, noise=1.2))
    more = clustered(3, 1_800, noise=1.2)
    after = learned_projection(more, before, number=3)
    old, new = images(before, more), images(after, more)
    cosine = (old * new).sum(axis=1) / np.linalg.norm(old, axis=1) / np.linalg.norm(new, axis=1)
    assert cosine.mean() > 0.8
    assert after.number == 3


def test_a_direction_in_which_only_tastes_differ_is_kept() -> None:
    rng = np.random.default_rng(4)
    scale = np.r_[np.full(100, 1.0), np.full(M - 100, 0.5)]
    embeddings = (rng.standard_normal((2_000, M)) * scale).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1)[:, None]
    taste = np.zeros(M)
    taste[150] = 1.0
    users = np.repeat(np.arange(200), 50)
    items = rng.integers(0, 2_000, len(users))
    sign = rng.choice([-1.0, 1.0], 200)[users]
    values = sign * np.sign(embeddings[items] @ taste)
    tastes = second_moment_of_tastes(users, items, values, embeddings)
    before = NO_PROJECTIONS.of("vector", M)
    blind = learned_projection(embeddings, before, number=2)
    told = learned_projection(embeddings, before, number=2, tastes=tastes)
    kept = [np.linalg.norm(projection.weights @ taste) for projection in (blind, told)]
    assert kept[0] < 0.3 < 0.8 < kept[1]


def test_a_record_carries_a_projection_and_an_older_one_changes_nothing() -> None:
    projection = first(clustered(2, 900))
    record = ProjectionRecord("vector", 2, 5, projection.halves(), n_items=900)
    read = decode_record(encode_record(record))
    assert read == record
    learned = NO_PROJECTIONS.after(record)
    assert learned.newest("vector") == 2
    assert learned.newest("title") == UNLEARNED
    assert learned.of("vector", M).weights == pytest.approx(projection.weights, abs=1e-3)
    assert learned.of("vector", M + 1).number == UNLEARNED
    assert learned.after(record) is learned


def test_an_item_is_encoded_with_the_newest_projection() -> None:
    embeddings = clustered(2, 900)
    record = ProjectionRecord("vector", 2, 5, first(embeddings).halves())
    encoder = ContentEncoder(projections=NO_PROJECTIONS.after(record))
    item = Item(ItemId("a"), vector=tuple(embeddings[0].tolist()))
    assert encoded(item, encoder).encoding == 2
    expected = images(first(embeddings), embeddings[:1])[0]
    expected /= np.linalg.norm(expected)
    assert vector(item, encoder) == pytest.approx(expected, abs=2e-3)
    assert encoded(Item(ItemId("b"), tags=("cats",)), encoder).encoding == UNLEARNED
