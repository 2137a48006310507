"""The study of long histories, in a small size."""

from serve.config import Config
from tests.studies.feed.repeats import RepeatsSize, run_repeats


def test_long_histories_are_kept_small_and_nothing_comes_twice() -> None:
    size = RepeatsSize(users=1, cards=7_000, items=10_000, pages=20)
    result = run_repeats(size, Config(), seed=1, advance=lambda *_: None)
    assert result.repeats == 0
    assert result.unseen_least > 2_000
    assert 10_000 < result.bytes_per_10000 < 20_480
    assert 0.0 <= result.false_positive <= 0.001
    assert result.page_ratio > 0.0
