"""The study of embeddings, in a small size."""

import numpy as np
import pytest

from serve.config import Config
from tests.studies.content.content import ContentSize, precision, run_content


@pytest.mark.slow
def test_the_learned_projection_keeps_subjects_together() -> None:
    size = ContentSize(items=1_000, pages=10)
    result = run_content(size, Config(), seed=1, advance=lambda *_: None)
    assert result.sentences > 2_000
    assert result.subjects > 30
    assert result.precision > 0.5
    assert result.precision_signs_32 < result.precision_signs_64 < result.precision_learned
    assert result.precision_kept >= 0.95
    assert result.page_ratio > 0.0


def test_precision_counts_the_nearest_others() -> None:
    rows = np.repeat(np.eye(2), 10, axis=0)
    assert precision(rows, np.repeat([0, 1], 10)) == 1.0
    assert precision(rows, np.zeros(20, dtype=np.int64)) == 1.0
    assert precision(rows, np.arange(20)) == 0.0
