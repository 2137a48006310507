"""A column is declared once, and whoever needs it asks for it by its declaration."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest

from env.columns import schema
from env.columns.scales import PersonFacts
from env.columns.schema import (
    ACTION_COLUMNS,
    COLUMNS,
    DYNAMIC_COLUMNS,
    N_ACTION,
    N_SHARED,
    N_STATIC,
    SHARED_COLUMNS,
    STATIC_COLUMNS,
    USER_COUNTS,
    Column,
    action_index,
    index_of,
    quantise,
)

ROOT = Path(__file__).parents[3]

WORDS = {
    "android": "a system in a registration",
    "cellular": "a network in a request",
    "desktop": "a device in a request",
    "followed": "a retrieval source",
    "ios": "a system in a registration",
    "phone": "a device in a request",
    "popularity": "a baseline policy",
    "position": "a field of other formats, and of the simulated world",
    "v1": "an API version of Kubernetes",
    "visits": "a count in the swarm's report",
    "wifi": "a network in a request",
}
"""Names of columns that are words of another vocabulary as well."""

OTHER_OBSERVATIONS = {
    "env/world/observer.py",
    "env/world/supply.py",
    "policies/training/rankings.py",
}
"""The simulated world's own observation, whose columns are others than the feed's."""

OTHER_USES = {("serve/jobs/policy_audit.py", "bait")}
"""Rows of tables that are no columns."""


def constants() -> list[Column]:
    """Return all declarations of the module, in the order in which they stand."""
    return [value for value in vars(schema).values() if isinstance(value, Column)]


def test_every_declaration_is_registered_once_under_its_name() -> None:
    columns = SHARED_COLUMNS + ACTION_COLUMNS
    assert len(COLUMNS) == len(columns) == N_SHARED + N_ACTION
    assert set(constants()) <= set(columns)
    for column in constants():
        assert getattr(schema, column.name.upper()) is column is COLUMNS[column.name]


@pytest.mark.parametrize(
    ("block", "columns"),
    [("shared", SHARED_COLUMNS), ("static", STATIC_COLUMNS), ("dynamic", DYNAMIC_COLUMNS)],
)
def test_a_column_stands_in_the_block_and_at_the_index_of_its_declaration(
    block: str, columns: tuple[Column, ...]
) -> None:
    assert {column.block for column in columns} == {block}
    assert [index_of(column) for column in columns] == list(range(len(columns)))
    if block != "shared":
        first = N_STATIC if block == "dynamic" else 0
        assert [action_index(c) for c in columns] == list(range(first, first + len(columns)))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_scale_is_finite_and_fits_half_precision_on_the_whole_documented_span(name: str) -> None:
    column = COLUMNS[name]
    low, high = column.span
    values = np.linspace(low, high, 1001)
    scaled = np.asarray(column.scaled(values), dtype=np.float64)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= 100.0
    assert np.allclose(quantise(scaled), scaled, rtol=2**-10, atol=2**-14)
    one_by_one = [column.scaled(float(value)) for value in (low, high)]
    assert one_by_one == [scaled[0], scaled[-1]]


def test_only_columns_of_user_and_item_have_the_prior_of_a_match() -> None:
    assert all(column.prior in ("main", "none") for column in (*SHARED_COLUMNS, *STATIC_COLUMNS))
    assert all(column.prior in ("main", "match") for column in DYNAMIC_COLUMNS)


def test_each_fact_of_a_user_is_read_by_a_column() -> None:
    read: set[str] = set()

    class Facts:
        def __getattr__(self, name: str) -> float:
            read.add(name)
            return 1.0

    for column in USER_COUNTS:
        assert column.read is not None
        column.read(Facts())  # type: ignore[arg-type]
    assert read == set(PersonFacts._fields)


def test_no_name_of_a_column_stands_as_a_string_outside_the_schema() -> None:
    copied = []
    for package in ("env", "policies", "replay", "serve"):
        for path in sorted((ROOT / package).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            if file == "env/columns/schema.py" or file in OTHER_OBSERVATIONS:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                name = node.value if isinstance(node, ast.Constant) else None
                if isinstance(name, str) and name in COLUMNS.keys() - WORDS.keys():
                    copied.append((file, name))
    assert set(copied) <= OTHER_USES, "ask for the column by its declaration in env.columns.schema"


def test_a_pickled_declaration_comes_back_as_itself() -> None:
    assert pickle.loads(pickle.dumps(schema.PHONE)) is schema.PHONE


def test_the_words_that_are_excused_are_columns() -> None:
    assert WORDS.keys() <= COLUMNS.keys()
