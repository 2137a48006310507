"""Token buckets, and numbers of uses."""

from hypothesis import given
from hypothesis import strategies as st

from serve.access.rates import Quota, RateLimiter


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    rates = RateLimiter(2.0, 5.0)
    assert [rates.take("a", 0) for _ in range(11)] == [True] * 10 + [False]
    assert not rates.take("a", 499)
    assert rates.take("a", 500)
    assert not rates.take("a", 501)
    assert rates.take("b", 501)


def test_a_rate_of_nothing_is_any_rate() -> None:
    rates = RateLimiter(0.0, 5.0)
    assert all(rates.take("a", 0) for _ in range(1000))


def test_a_clock_that_goes_back_fills_nothing() -> None:
    rates = RateLimiter(1.0, 1.0)
    assert rates.take("a", 10_000)
    assert not rates.take("a", 0)
    assert not rates.take("a", 10_000)
    assert rates.take("a", 11_000)


def test_a_name_may_have_a_rate_of_its_own() -> None:
    rates = RateLimiter(0.0, 1.0)
    assert [rates.take("a", 0, per_second=2.0) for _ in range(3)] == [True, True, False]


def test_uses_that_have_happened_count_beyond_the_burst() -> None:
    rates = RateLimiter(1.0, 10.0)
    assert rates.allows("a", 0)
    rates.spend("a", 0, 30)
    assert not rates.allows("a", 20_000)
    assert rates.allows("a", 21_000)


def test_memory_is_bounded() -> None:
    rates, quota = RateLimiter(1.0, 1.0, most_names=10), Quota(1, most_names=10)
    for k in range(100):
        assert rates.take(str(k), 0)
        assert quota.allows(str(k))
        quota.spend(str(k))
    assert (len(rates._buckets), len(quota._used)) == (10, 10)
    assert not rates.take("99", 0)
    assert not quota.allows("99")
    assert quota.allows("0")


def test_a_quota_of_nothing_is_any_number() -> None:
    quota = Quota(0)
    for _ in range(1000):
        quota.spend("a")
    assert quota.allows("a")


@given(st.lists(st.integers(0, 3_000), max_size=60), st.floats(0.5, 20.0))
def test_no_more_passes_than_burst_and_rate_allow(waits: list[int], per_second: float) -> None:
    rates, now_ms, taken = RateLimiter(per_second, 4.0), 0, 0
    most = max(4.0 * per_second, 1.0)
    for wait_ms in waits:
        now_ms += wait_ms
        taken += rates.take("a", now_ms)
        assert taken <= most + per_second * now_ms / 1000 + 1e-6
