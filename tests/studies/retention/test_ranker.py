"""The bench of the ranker, small, by a clock that ticks."""

import itertools

from tests.studies.retention.ranker import run_ranker


def test_the_served_network_is_the_trained_one_to_1e_5_and_both_are_timed() -> None:
    told: list[tuple[str, int, int]] = []
    # Each call of the clock is a millisecond after the last: numpy's and torch's take one each.
    result = run_ranker(
        candidates=100,
        n_calls=10,
        n_networks=3,
        seed=1,
        clock_ns=itertools.count(0, 1_000_000).__next__,
        advance=lambda *step: told.append(step),
    )
    assert 0.0 < result.max_error <= 1e-5
    assert result.max_score > 3.0
    assert (result.forward_ms, result.torch_ms, result.ratio) == (1.0, 1.0, 1.0)
    assert result.n_bytes > 4 * 15_000
    assert told[9] == ("pages", 10, 10)
    assert told[-1] == ("networks", 3, 3)
