"""Shares of traffic are those before an upload was born, and no crowd raises its own."""

import msgspec
import numpy as np
import pytest

from env.fair_start.traffic import N_BUCKETS, Frozen, Heard, Traffic, TrafficSource
from env.vocabulary import Scene

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YOUNG_DAYS = 7
SLACK = 1.5


def visit(origin: str = "", tenure_days: int = 100, country: str = "GB") -> Scene:
    return Scene(0, country=country, origin=origin, tenure_days=tenure_days)


def crowd(n: int, country: str = "GB", young_in: int = 10) -> list[Scene]:
    """Return visits from many addresses, one in `young_in` of a young account."""
    return [
        visit(f"{country} {k % 997}", 0 if k % young_in == 0 else 50, country) for k in range(n)
    ]


def flood(n: int, country: str = "GB") -> list[Scene]:
    return [visit("farm", 0, country)] * n


def fold(traffic: Traffic, visits: list[Scene]) -> Traffic:
    for scene in visits:
        traffic.fold(scene, YOUNG_DAYS)
    return traffic


def shares(traffic: Traffic, home: str = "GB", born_ms: int = 0) -> TrafficSource:
    """Return the shares of a young account at the farm's address."""
    return traffic.source(visit("farm", 0), YOUNG_DAYS, home, born_ms)


def mixed(*crowds: list[Scene]) -> list[Scene]:
    """Return all visits in a random order."""
    visits = [scene for each in crowds for scene in each]
    return [visits[k] for k in np.random.default_rng(7).permutation(len(visits))]


def newcomers(n: int, country: str = "GB") -> list[Scene]:
    return crowd(n, country, young_in=1)


def heard(traffic: Traffic, visits: list[Scene], now_ms: int = 0) -> list[Scene]:
    """Return the visits of which all may be learned from."""
    told = []
    for scene in visits:
        traffic.fold(scene, YOUNG_DAYS)
        if traffic.admit(scene, YOUNG_DAYS, SLACK, now_ms):
            told.append(scene)
    return told


def n_young(visits: list[Scene]) -> int:
    return sum(scene.tenure_days < YOUNG_DAYS for scene in visits)


def restored(traffic: Traffic) -> Traffic:
    frozen = msgspec.msgpack.decode(msgspec.msgpack.encode(traffic.frozen), type=list[Frozen])
    heard = msgspec.msgpack.decode(msgspec.msgpack.encode(traffic.heard), type=dict[str, Heard])
    return Traffic.from_stored(traffic.to_stored(), frozen, heard)


def test_a_crowd_that_comes_after_an_upload_does_not_raise_its_own_share() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    before = shares(traffic)
    after = shares(fold(traffic, flood(20_000)))
    assert before.young_share == pytest.approx(0.1, abs=0.02)
    assert after.young_share == pytest.approx(before.young_share, abs=0.02)
    assert after.origin_share < 0.03
    # Nor for an upload that is born within hours, by a state that was frozen before the crowd.
    traffic.freeze(5 * HOUR_MS)
    assert shares(traffic, born_ms=5 * HOUR_MS) == after


def test_an_upload_keeps_the_shares_from_before_its_birth() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    before = shares(traffic)
    fold(traffic, flood(20_000))
    traffic.freeze(6 * HOUR_MS)
    assert shares(traffic, born_ms=HOUR_MS).young_share == pytest.approx(
        before.young_share, abs=0.02
    )
    assert shares(traffic, born_ms=7 * HOUR_MS).young_share > 0.6


def test_states_are_kept_for_two_days_and_the_oldest_serves_what_is_older() -> None:
    traffic = Traffic()
    for k in range(30):
        fold(traffic, crowd(400))
        traffic.freeze(k * 6 * HOUR_MS)
    assert [frozen.at_ms // HOUR_MS for frozen in traffic.frozen] == list(range(132, 175 + 1, 6))
    assert shares(traffic, born_ms=0) == shares(traffic, born_ms=132 * HOUR_MS)
    assert len(msgspec.msgpack.encode(traffic.frozen)) < 8 * 2 * 1_100


@pytest.mark.parametrize("n", [0, 50, 1_000])
def test_where_everybody_is_young_and_has_one_carrier_all_of_it_is_expected(n: int) -> None:
    traffic = fold(Traffic(), flood(n))
    traffic.freeze(0)
    assert shares(fold(traffic, flood(500))) == TrafficSource(
        shares(traffic).bucket, 1.0, True, 1.0
    )


def test_where_all_are_young_in_one_market_they_are_expected_at_home_only() -> None:
    traffic = fold(Traffic(), [*crowd(20_000), *crowd(2_000, "SG", young_in=1)])
    traffic.freeze(0)
    assert shares(traffic, home="SG").young_share > 0.9
    assert shares(traffic, home="GB").young_share < 0.25


def test_a_crowd_of_the_young_in_one_market_opens_no_other() -> None:
    traffic = fold(Traffic(), [*crowd(20_000), *crowd(2_000, "SG")])
    traffic.freeze(0)
    before = shares(traffic, home="SG", born_ms=DAY_MS)
    fold(traffic, flood(40_000))
    traffic.freeze(6 * HOUR_MS)
    after = shares(traffic, home="SG", born_ms=DAY_MS)
    assert shares(traffic, home="GB", born_ms=DAY_MS).young_share > 0.6
    assert after.young_share < before.young_share + 0.08, "200 impressions' weight of all others"


def test_a_block_that_a_market_has_not_seen_yet_has_its_share_of_all() -> None:
    traffic = fold(Traffic(), [*crowd(10_000), *[visit("farm", 50)] * 1_000, *crowd(2_000, "SG")])
    traffic.freeze(0)
    assert shares(traffic, home="SG").origin_share == pytest.approx(1 / 13, abs=0.02)


def test_a_market_without_earlier_traffic_goes_by_all_the_others() -> None:
    traffic = fold(Traffic(), crowd(20_000))
    traffic.freeze(0)
    fold(traffic, flood(3_000, "XX"))
    everywhere = shares(traffic, home="").young_share
    assert shares(traffic, home="XX").young_share == pytest.approx(everywhere)
    assert everywhere < 0.12


def test_a_new_installation_goes_by_what_comes() -> None:
    traffic = Traffic()
    traffic.freeze(0)
    fold(traffic, crowd(2_000, young_in=4))
    assert shares(traffic).young_share == pytest.approx(0.25, abs=0.02)


def test_what_tells_no_address_is_a_source_of_its_own() -> None:
    traffic = fold(Traffic(), [*crowd(9_000), *[visit()] * 1_000])
    traffic.freeze(0)
    fold(traffic, [visit()] * 50_000)
    source = traffic.source(visit(), YOUNG_DAYS, "GB", born_ms=0)
    assert source.bucket == -1
    assert source.origin_share == pytest.approx(0.1, abs=0.03)
    assert not source.young


def test_traffic_of_old_counts_less_and_its_shares_stay() -> None:
    traffic = fold(Traffic(), crowd(10_000, young_in=4))
    traffic.freeze(0)
    traffic.freeze(3 * DAY_MS)
    total, young, *_ = traffic.counts["GB"]
    assert total == pytest.approx(10_000 / 2.718281828)
    assert young == pytest.approx(total / 4)


def test_traffic_comes_back_from_its_bytes() -> None:
    traffic = Traffic()
    for k in range(3):
        fold(traffic, [*crowd(700), *crowd(300, "TH", young_in=2), *[visit()] * 50])
        traffic.freeze(k * DAY_MS)
    again = restored(traffic)
    for each in (traffic, again):
        fold(each, crowd(500, "US"))
        each.freeze(4 * DAY_MS)
    assert again.to_stored() == traffic.to_stored()
    assert again.frozen == traffic.frozen
    for home in ("GB", "TH", "US", "XX", ""):
        assert shares(again, home, DAY_MS) == shares(traffic, home, DAY_MS)


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=f"market GB: expected {N_BUCKETS + 2} counts, got 1"):
        Traffic.from_stored({"GB": b"\0" * 8}, [], {})
    with pytest.raises(ValueError, match="market GB: expected 1036 bytes of earlier counts, got 4"):
        Traffic.from_stored({}, [Frozen(0, {"GB": b"\0" * 4})], {})


def test_markets_without_bound_share_a_row() -> None:
    traffic = fold(Traffic(), [visit(country=f"c{k}") for k in range(1000)])
    assert len(traffic.counts) <= 301


def test_what_comes_is_usual_until_a_source_makes_much_more_of_it_than_before() -> None:
    traffic = fold(Traffic(), crowd(5_000))
    assert traffic.is_usual(visit("farm", 0), YOUNG_DAYS, slack=1.5)
    traffic.freeze(0)
    usual = []
    for scene in crowd(1_000):
        traffic.fold(scene, YOUNG_DAYS)
        usual.append(traffic.is_usual(scene, YOUNG_DAYS, slack=1.5))
    assert sum(usual) == 1_000
    fold(traffic, flood(3_000))
    assert not traffic.is_usual(visit("GB 1", 0), YOUNG_DAYS, slack=1.5)
    assert not traffic.is_usual(visit("farm", 50), YOUNG_DAYS, slack=1.5)
    assert traffic.is_usual(visit("GB 1", 50), YOUNG_DAYS, slack=1.5)
    # Nor when that is frozen: what is usual is what it was in the oldest of the states.
    traffic.freeze(6 * HOUR_MS)
    fold(traffic, flood(500))
    assert not traffic.is_usual(visit("farm", 0), YOUNG_DAYS, slack=1.5)
    assert restored(traffic).is_usual(visit("GB 1", 50), YOUNG_DAYS, slack=1.5)


@pytest.mark.parametrize("n_new", [0, 1_000, 20_000])
def test_the_young_teach_as_much_as_usual_and_no_more_however_many_come(n_new: int) -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    told = heard(traffic, mixed(crowd(5_000), newcomers(n_new)))
    n_old, usual = 4_500, 500
    assert len(told) - n_young(told) == n_old
    assert n_young(told) >= usual
    # Of n that are heard they may be slack * s * n + 2 sqrt(s n).
    s = shares(traffic).young_share
    assert s == pytest.approx(0.1, abs=0.025)
    assert n_young(told) <= SLACK * s * len(told) + 2.0 * np.sqrt(s * len(told))


def test_the_old_are_heard_whatever_block_they_come_from() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    carrier = [visit("one carrier", 50)] * 3_000
    assert heard(traffic, carrier) == carrier


def test_a_surge_of_one_market_leaves_the_others_alone() -> None:
    traffic = fold(Traffic(), [*crowd(10_000), *crowd(10_000, "TH")])
    traffic.freeze(0)
    told = heard(traffic, mixed(newcomers(20_000), crowd(3_000), crowd(3_000, "TH")))
    assert n_young([scene for scene in told if scene.country == "TH"]) == 300


@pytest.mark.parametrize("n", [0, 50, 1_000])
def test_where_everybody_is_young_all_of_them_teach(n: int) -> None:
    traffic = fold(Traffic(), newcomers(n))
    assert len(heard(traffic, newcomers(100))) == 100  # there is nothing earlier yet
    traffic.freeze(0)
    assert len(heard(traffic, newcomers(3_000))) == 3_000


def test_what_stays_is_usual_after_some_days_and_teaches_all() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    part = []
    for k in range(4 * 6):
        traffic.freeze(k * 6 * HOUR_MS)
        part.append(len(heard(traffic, mixed(crowd(500), newcomers(500)))) / 1_000)
    assert max(part[:8]) < 0.65
    assert min(part[-4:]) > 0.95


def test_where_only_the_young_are_left_they_teach_as_much_as_before() -> None:
    """There is nobody of whom they could be a part."""
    traffic = Traffic()
    for k in range(1, 41):
        fold(traffic, crowd(1_000))
        traffic.freeze(k * 6 * HOUR_MS)
    for k in range(41, 44):
        told = heard(traffic, newcomers(1_000), k * 6 * HOUR_MS)
        assert 90 < len(told) < SLACK * 100 + 2.0 * 100**0.5 + 1
        traffic.freeze(k * 6 * HOUR_MS)


@pytest.mark.parametrize("every_h", [6, 12, 24])
def test_what_is_usual_is_two_days_old_however_seldom_it_is_looked_at(every_h: int) -> None:
    traffic = fold(Traffic(), crowd(10_000))
    for k in range(8):
        traffic.freeze(k * every_h * HOUR_MS)
    usual = traffic.usual
    assert usual is not None
    assert 42 <= (7 * every_h) - usual.at_ms // HOUR_MS <= 48


def test_what_was_heard_comes_back_in_the_middle_of_a_surge() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    visits = mixed(crowd(1_000), newcomers(4_000), crowd(300, ""))
    live = heard(traffic, visits[:2_500])
    again = restored(traffic)
    assert heard(again, visits[2_500:]) == heard(traffic, visits[2_500:])
    assert again.heard == traffic.heard
    assert n_young(live) < 200


def test_who_claims_many_countries_is_bounded_as_one_crowd() -> None:
    traffic = fold(Traffic(), crowd(10_000))
    traffic.freeze(0)
    fakes = [visit(country=f"c{k % 260}", tenure_days=0) for k in range(6_000)]
    told = heard(traffic, fakes)
    assert len(told) < 60
    assert set(traffic.heard) == {""}
    assert not traffic.is_usual(visit(country="new", tenure_days=0), YOUNG_DAYS, slack=1.5)


def test_markets_that_were_small_go_on_as_much_as_they_did_together() -> None:
    small = [visit(country=f"c{k % 20}", tenure_days=100 * (k % 2)) for k in range(2_000)]
    traffic = fold(Traffic(), [*crowd(10_000), *small])
    traffic.freeze(0)
    told = heard(traffic, [v for v in small if v.tenure_days == 0], 3 * 24 * HOUR_MS)
    assert len(told) == 1_000  # as many as were counted, in the time in which counts fade


def test_markets_without_bound_share_what_is_heard() -> None:
    traffic = fold(Traffic(), [*crowd(10_000), *(visit(country=f"c{k}") for k in range(400))])
    traffic.freeze(0)
    heard(traffic, [visit(country=f"c{k}", tenure_days=k % 2) for k in range(1_000)])
    assert len(traffic.heard) <= 301
