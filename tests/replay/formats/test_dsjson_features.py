"""Hashed columns of a dsjson context: the same for the same features, whatever the order."""

import json
from pathlib import Path

import numpy as np
import pytest

from replay.evaluate.targets import row_pages
from replay.formats.dsjson_source import (
    MAX_VALUE,
    N_ACTION,
    N_SHARED,
    DsjsonSource,
    context_features,
)
from replay.reward_models.batch_models import Ridges, fit_rewards
from tests.replay.formats.test_dsjson import file_of, line


def columns(shared: dict[str, object]) -> list[float]:
    found, _ = context_features(json.dumps({**shared, "_multi": [{}]}).encode())
    return [float(value) for value in found]


def test_columns_do_not_depend_on_order_nor_on_what_is_hidden() -> None:
    one = columns({"User": {"age": 3, "city": "Bath"}, "wifi": True})
    other = columns({"wifi": True, "User": {"_id": 9, "city": "Bath", "age": 3}, "_secret": 4})
    assert one == other
    assert sum(value != 0.0 for value in one) == 3
    assert columns({"User": {"age": 6, "city": "Bath"}, "wifi": False}) != one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "x"}, {"a": "y"}),
        ({"a": {"b": 1}}, {"b": {"a": 1}}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": 1}, {"a": -1}),
    ],
)
def test_other_features_are_other_columns(one: dict[str, object], other: dict[str, object]) -> None:
    assert columns(one) != columns(other)


def test_a_number_is_its_amount_and_cut_where_it_would_drown_the_others() -> None:
    assert np.abs(columns({"a": 2.5})).sum() == 2.5
    assert np.abs(columns({"a": -1e300})).sum() == MAX_VALUE
    assert not np.any(columns({"a": None}))


def test_candidates_have_their_own_columns(tmp_path: Path) -> None:
    (batch,) = DsjsonSource(
        file_of(tmp_path, line(), line(c={"_multi": [{"A": {"x": 1}}] * 3}))
    ).batches()
    assert batch.context is not None
    assert batch.action_context is not None
    assert batch.context.shape == (2, N_SHARED)
    assert batch.action_context.shape == (2, 3, N_ACTION)
    assert np.abs(batch.action_context).sum(axis=2).tolist() == [[1.0, 2.0, 3.0], [1.0] * 3]


def test_a_reward_model_finds_what_the_candidates_are_worth(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    lines = []
    for _ in range(500):
        values = rng.random(3)
        multi = [{"A": {"x": float(value)}} for value in values]
        lines.append(line(c={"_multi": multi}, _label_cost=-float(values[1])))
    source = DsjsonSource(file_of(tmp_path, *lines))
    model = fit_rewards(source)
    assert isinstance(model, Ridges)
    (batch,) = source.batches()
    assert batch.action_context is not None
    expected = np.abs(batch.action_context).sum(axis=2)
    np.testing.assert_allclose(model.predict(batch), expected, atol=0.1)
    page, _ = next(row_pages(batch))
    assert page.context.features.actions.shape == (3, N_ACTION)
