"""Guarded evidence: a histogram that keeps the mean, and shares that no source exceeds."""

import math

import numpy as np
import pytest

from env.audience_args import Guards
from env.evidence import (
    HIGH,
    LOW,
    N_BUCKETS,
    N_NODES,
    Evidence,
    Source,
    Traffic,
    add_uplift,
    summarise,
)
from env.vocabulary import Floats, Scene

ANYBODY = Source(-1, 1.0, False, 1.0)


def histogram(values: Floats) -> list[float]:
    nodes = [0.0] * N_NODES
    for value in values.tolist():
        add_uplift(nodes, value)
    return nodes


def visit(origin: str = "", tenure_days: int = 100, country: str = "GB") -> Scene:
    return Scene(0, country=country, origin=origin, tenure_days=tenure_days)


def admitted(
    visits: list[Scene], upload: list[Scene], guards: Guards | None = None, home: str = "GB"
) -> int:
    """Return how many of an upload's visits count after others, all of them being traffic."""
    guards, traffic, evidence = guards or Guards(), Traffic(), Evidence()
    for scene in visits:
        traffic.fold(scene, guards.young_days)
    for scene in upload:
        traffic.fold(scene, guards.young_days)
        evidence.admit(traffic.source(scene, guards.young_days, home), guards)
    assert evidence.counted + evidence.cut == len(upload)
    return int(evidence.counted)


def test_a_histogram_has_the_mean_of_what_is_in_it() -> None:
    values = np.random.default_rng(1).uniform(LOW, HIGH, 500)
    summary = summarise(histogram(values), trim=0.0)
    assert summary.n == pytest.approx(500)
    assert summary.mean == pytest.approx(float(values.mean()))


def test_what_is_outside_stands_at_the_end() -> None:
    assert summarise(histogram(np.array([-9.0, 9.0, 9.0])), trim=0.0).mean == pytest.approx(2.0)


@pytest.mark.parametrize("trim", [0.05, 0.1, 0.25])
def test_the_trimmed_mean_is_that_of_the_sorted_values(trim: float) -> None:
    values = np.sort(np.random.default_rng(4).exponential(0.7, 4000) - 0.7)
    cut = int(trim * len(values))
    inside = float(values[cut:-cut].mean())
    # A value that is split between two nodes may be cut in half: less than a node's distance at
    # either end, so less than trim times that.
    assert summarise(histogram(values), trim).mean == pytest.approx(inside, abs=0.25 * trim)


def test_the_variance_is_that_of_trimmed_means() -> None:
    rng, n, repeats = np.random.default_rng(8), 200, 400
    summaries = [summarise(histogram(rng.exponential(0.7, n) - 0.7), 0.1) for _ in range(repeats)]
    spread = float(np.var([summary.mean for summary in summaries], ddof=1))
    said = float(np.mean([summary.variance for summary in summaries])) / n
    # The split between nodes widens each value by up to a node's distance: 0.25^2 / 6 at most.
    assert abs(spread - said) < 4.0 * spread * math.sqrt(2.0 / repeats) + 0.25**2 / 6.0 / n


def test_one_great_reward_moves_the_trimmed_mean_less_than_the_mean() -> None:
    honest = np.random.default_rng(6).normal(0.0, 0.5, 100)
    boosted = np.concatenate([honest, np.full(5, 3.5)])
    gain = [
        summarise(histogram(boosted), t).mean - summarise(histogram(honest), t).mean
        for t in (0.1, 0.0)
    ]
    assert gain[0] < 0.5 * gain[1]


def test_nothing_summarises_to_nothing() -> None:
    assert summarise([0.0] * N_NODES, 0.1) == (0.0, 0.0, 0.0)


def test_forgetting_half_keeps_the_mean_and_halves_the_weight() -> None:
    evidence = Evidence()
    for uplift in (0.5, 1.0, -0.3):
        assert evidence.admit(Source(3, 0.1, True, 0.5), Guards(at_least=5))
        evidence.add(uplift)
    before = summarise(evidence.nodes, 0.1)
    evidence.forget_half()
    after = summarise(evidence.nodes, 0.1)
    assert after.n == pytest.approx(before.n / 2)
    assert after.mean == pytest.approx(before.mean)
    assert (evidence.counted, evidence.young, evidence.origins[3]) == (1.5, 1.5, 1)


def test_an_origin_that_sends_more_than_its_share_is_not_heard() -> None:
    crowd = [visit(f"o{k % 500}") for k in range(5000)]
    farm = [visit("farm")] * 300
    rest = [visit(f"o{k % 500}") for k in range(300)]
    mixed = [scene for pair in zip(farm, rest, strict=True) for scene in pair]
    counted = admitted(crowd, mixed)
    # Of 300 honest visits hardly any is cut, of the farm's hardly any counts.
    assert 280 < counted < 320
    assert admitted(crowd, mixed, Guards(enabled=False)) == 600


def test_young_accounts_count_up_to_their_share_of_traffic() -> None:
    crowd = [visit(tenure_days=0 if k % 5 == 0 else 50) for k in range(5000)]
    fair = [visit(tenure_days=0 if k % 5 == 0 else 50) for k in range(500)]
    flooded = [visit(tenure_days=50 if k % 5 == 0 else 0) for k in range(500)]
    assert admitted(crowd, fair) >= 497
    # The 100 old ones, and for a start `at_least` young ones.
    assert 100 <= admitted(crowd, flooded) <= 100 + 2 * Guards().at_least


def test_a_source_always_may_send_its_first_impressions() -> None:
    crowd = [visit(f"o{k % 5000}") for k in range(20_000)]
    guards = Guards(at_least=7)
    assert admitted(crowd, [visit("farm")] * 50, guards) == 7


@pytest.mark.parametrize(
    "upload",
    [
        [visit("carrier")] * 1000,
        [visit("", tenure_days=0)] * 1000,
        [visit("carrier", tenure_days=0)] * 1000,
        [visit()] * 1000,
    ],
    ids=["one origin", "all are young", "both", "no origins"],
)
def test_where_all_traffic_is_alike_nothing_is_cut(upload: list[Scene]) -> None:
    assert admitted([], upload) == 1000
    assert admitted(upload, upload) == 1000


def test_a_small_market_with_few_origins_is_no_farm() -> None:
    large = [visit(f"o{k % 3000}") for k in range(50_000)]
    small = [visit(f"s{k % 10}", tenure_days=k % 9, country="SG") for k in range(500)]
    assert admitted([*large, *small], small, home="SG") > 480


def test_a_farm_in_a_country_of_its_own_is_still_a_farm() -> None:
    large = [visit(f"o{k % 3000}") for k in range(50_000)]
    farm = [visit("farm", country="XX")] * 300
    assert admitted(large, farm, home="GB") < 20


def test_honest_evidence_is_hardly_ever_cut() -> None:
    rng = np.random.default_rng(12)
    origins, tenures = rng.integers(0, 2000, 40_000), rng.integers(0, 100, 40_000)
    people = [visit(f"o{o}", int(t)) for o, t in zip(origins, tenures, strict=True)]
    for n in (100, 300, 3000):
        assert admitted(people[:20_000], people[20_000 : 20_000 + n]) > 0.95 * n


def test_traffic_of_old_counts_less_and_its_shares_stay() -> None:
    traffic = Traffic()
    for k in range(140_000):
        traffic.fold(visit(tenure_days=0 if k % 4 == 0 else 50), 7)
    total, young, *_ = traffic.counts["GB"]
    assert total == 131_072 / 2 + 140_000 - 131_072
    assert young == pytest.approx(total / 4, abs=1.0)


def test_an_impression_of_unknown_origin_and_age_is_bound_by_nothing() -> None:
    evidence = Evidence()
    assert all(evidence.admit(ANYBODY, Guards()) for _ in range(1000))
    assert sum(evidence.origins) == 0


def test_traffic_comes_back_from_its_bytes() -> None:
    traffic = Traffic()
    for k in range(1000):
        traffic.fold(visit(f"o{k % 30}", k % 20, ("GB", "US", "")[k % 3]), 7)
    restored = Traffic.from_stored(traffic.to_stored())
    assert restored.counts == traffic.counts
    assert restored.source(visit("o1", 0), 7, "US") == traffic.source(visit("o1", 0), 7, "US")
    with pytest.raises(ValueError, match=f"market GB: expected {N_BUCKETS + 2} counts, got 1"):
        Traffic.from_stored({"GB": b"\0" * 8})


def test_markets_without_bound_share_a_row() -> None:
    traffic = Traffic()
    for k in range(1000):
        traffic.fold(visit(country=f"c{k}"), 7)
    assert len(traffic.counts) <= 301
