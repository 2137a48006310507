from pathlib import Path

import numpy as np
import pytest

from env.calibration.recipes import daily
from env.report.moments import draw_moments

pytest.importorskip("matplotlib", reason="pictures need the extra `world`")

_, TARGET = daily()
SURVIVAL = np.exp(-np.arange(100) / 30.0)


def draw(file: Path) -> bytes:
    draw_moments(file, TARGET, TARGET, SURVIVAL, title="The world “daily”", source="assumed")
    return file.read_bytes()


def test_a_picture_says_what_is_drawn(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "moments.svg").decode()
    for text in ("The world", "target", "simulated", "days until the next visit", "like"):
        assert f"<!-- {text}" in drawn or text in drawn


@pytest.mark.slow
def test_the_same_moments_draw_the_same_picture(tmp_path: Path) -> None:
    assert draw(tmp_path / "one.png") == draw(tmp_path / "other.png")


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not supported"):
        draw(tmp_path / "moments.words")
