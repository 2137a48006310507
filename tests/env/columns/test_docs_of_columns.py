"""Numbers of the format in docs/data.md are those of the code."""

import re
from pathlib import Path

import pytest

from env.columns.schema import N_DYNAMIC, N_SHARED, N_STATIC, SCHEMA
from env.records import FORMAT_VERSION

TEXT = " ".join((Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8").split())


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        (r"`dynamic`: `n` x (\d+) float16", N_DYNAMIC),
        (r"`shared`: (\d+) float16", N_SHARED),
        (r"`block`: (\d+) float16", N_STATIC),
        (r"`feature_schema`: (\d+);", SCHEMA),
        (r"The log, format version (\d+)", FORMAT_VERSION),
    ],
)
def test_the_data_folder_page_gives_the_codes_numbers(pattern: str, number: int) -> None:
    assert re.findall(pattern, TEXT) == [str(number)]
