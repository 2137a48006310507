import numpy as np
import pytest
from msgspec.structs import replace
from swipes import make_log, visits

from env.calibration.impressions import ImpressionTable
from env.world.moments import LogStatistics, log_statistics, pool, poststratify, watch_distance


def random_log(n: int, seed: int, first_user: int = 0) -> ImpressionTable:
    rng = np.random.default_rng(seed)
    play_s = np.exp(rng.normal(1.5, 1.4, n)) * (rng.random(n) > 0.1)
    log = make_log(
        first_user + rng.integers(0, 50, n),
        rng.integers(0, 20 * 86_400_000, n),
        play_s,
        like=(play_s > 7.0) & (rng.random(n) < 0.2),
    )
    return replace_shares(log, rng)


def replace_shares(log: ImpressionTable, rng: np.random.Generator) -> ImpressionTable:
    columns = {name: getattr(log, name) for name in ImpressionTable.__slots__}
    columns["follow"] = log.like & (rng.random(len(log)) < 0.3)
    return ImpressionTable(**columns)


def test_moments_are_what_was_counted() -> None:
    log = make_log(
        np.array([0, 0, 0, 0]),
        np.arange(4) * 60_000,
        np.array([0.0, 5.0, 10.0, 25.0]),
        like=np.array([False, False, False, True]),
    )
    found = log_statistics(log)
    assert found.n == 4
    assert found.rates["valid_play"] == 0.5
    assert found.rates["long_view"] == found.rates["like"] == 0.25
    assert found.joint["like|valid_play"] == 0.5
    assert found.joint["long_view|valid_play"] == 0.5
    assert found.without("like") == 0.0
    assert found.watch_mean_s == 10.0
    assert found.watch_zero == 0.25
    assert found.session_cards == 4.0
    assert found.log_watch[49] == pytest.approx(np.log(10.0), abs=1e-3)


def test_gaps_and_sessions_are_counted_a_user_each() -> None:
    found = log_statistics(visits([[2, 4], [3]], [[0, 2], [1]]))
    assert found.session_cards == 3.0
    assert found.gaps[:3] == (0, 1, 0)


def test_logs_of_different_users_pool_to_the_moments_of_all() -> None:
    one, other = random_log(9_000, 1), random_log(3_000, 2, first_user=100)
    both = ImpressionTable(
        **{
            name: np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ImpressionTable.__slots__
        }
    )
    whole, pooled = log_statistics(both), pool([log_statistics(one), log_statistics(other)])
    assert pooled.n == whole.n
    assert pooled.gaps == whole.gaps
    for name in whole.rates:
        assert pooled.rates[name] == pytest.approx(whole.rates[name])
    for name in ("like|valid_play", "follow|like", "long_view|valid_play"):
        assert pooled.joint[name] == pytest.approx(whole.joint[name])
    assert pooled.watch_mean_s == pytest.approx(whole.watch_mean_s)
    assert pooled.session_cards == pytest.approx(whole.session_cards)
    assert watch_distance(pooled, whole) < 0.02


def test_weights_give_the_rates_that_are_asked_for() -> None:
    log = random_log(20_000, 3)
    rates = {"valid_play": 0.5, "long_view": 0.3}
    weight = poststratify(log, rates)
    found = log_statistics(log, weight=weight)
    assert found.rates["valid_play"] == pytest.approx(0.5)
    assert found.rates["long_view"] == pytest.approx(0.3)
    assert weight.mean() == pytest.approx(1.0)
    plain = log_statistics(log)
    assert found.joint["like|valid_play"] == pytest.approx(plain.joint["like|valid_play"], rel=0.05)
    assert found.watch_mean_s != pytest.approx(plain.watch_mean_s, rel=0.02)


def test_the_distance_of_watch_times_is_their_shift() -> None:
    log = random_log(20_000, 4)
    one = log_statistics(log)
    longer = replace(one, log_watch=tuple(x + 0.3 for x in one.log_watch))
    assert watch_distance(one, one) == 0.0
    assert watch_distance(one, longer) == pytest.approx(0.3)


def test_moments_come_back_from_json() -> None:
    import msgspec

    found = log_statistics(random_log(1_000, 5))
    assert msgspec.json.decode(msgspec.json.encode(found), type=LogStatistics) == found


def test_a_log_without_plays_is_refused() -> None:
    nothing = make_log(np.zeros(0, np.int64), np.zeros(0, np.int64))
    unplayed = make_log(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1))
    for log in (nothing, unplayed):
        with pytest.raises(ValueError, match="no moments"):
            log_statistics(log)
    with pytest.raises(ValueError, match="at least one log"):
        pool([])
    with pytest.raises(ValueError, match="long views < valid plays"):
        poststratify(random_log(100, 6), {"valid_play": 0.2, "long_view": 0.3})
