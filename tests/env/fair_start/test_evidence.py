"""Guarded evidence: a histogram that keeps the mean, and shares that no source exceeds."""

import math

import msgspec
import numpy as np
import pytest

from env.fair_start.evidence import HIGH, LOW, N_BITS, N_NODES, Evidence, add_uplift, summarise
from env.fair_start.settings import Guards
from env.fair_start.traffic import N_BUCKETS, Origins, Traffic, TrafficSource
from env.vocabulary import Floats, Scene, UserKey

ANYBODY = TrafficSource(-1, 1.0, False, 1.0)
UNKNOWN = UserKey("")


def histogram(values: Floats) -> list[float]:
    nodes = [0.0] * N_NODES
    for value in values.tolist():
        add_uplift(nodes, value)
    return nodes


def visit(origin: str = "", tenure_days: int = 100, country: str = "GB") -> Scene:
    return Scene(0, country=country, origin=origin, tenure_days=tenure_days)


def admitted(
    visits: list[Scene],
    upload: list[Scene],
    guards: Guards | None = None,
    home: str = "GB",
    *,
    accounts: bool = False,
) -> int:
    """Return how many of an upload's visits count after others, all of them being traffic.

    They are of one account each, or of unknown ones.
    """
    guards, traffic, evidence = guards or Guards(), Traffic(), Evidence()
    for scene in visits:
        traffic.fold(scene, guards.young_days)
    traffic.freeze(0)
    for k, scene in enumerate(upload):
        traffic.fold(scene, guards.young_days)
        source = traffic.source(scene, guards.young_days, home, born_ms=0)
        evidence.admit(source, guards, UserKey(f"{k}" if accounts else ""))
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
        assert evidence.admit(TrafficSource(3, 0.1, True, 0.5), Guards(at_least=5), UNKNOWN)
        evidence.add(uplift)
    before = summarise(evidence.nodes, 0.1)
    evidence.forget_half()
    after = summarise(evidence.nodes, 0.1)
    assert after.n == pytest.approx(before.n / 2)
    assert after.mean == pytest.approx(before.mean)
    assert (evidence.counted, evidence.young, evidence.origins.of(3)) == (1.5, 1.5, 1)


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


def test_a_small_market_where_everybody_is_young_has_its_evidence() -> None:
    large = [visit(f"o{k % 3000}") for k in range(50_000)]
    small = [visit(f"s{k % 900}", tenure_days=0, country="SG") for k in range(1_500)]
    assert admitted([*large, *small], small[:300], home="SG") > 290


def test_fakes_that_tell_no_address_are_not_heard_where_others_do() -> None:
    crowd = [visit(f"o{k % 5000}" if k % 20 else "") for k in range(20_000)]
    mixed = [scene for k in range(300) for scene in (visit(), crowd[k])]
    assert 270 < admitted(crowd, mixed) < 340


def test_young_fakes_do_not_silence_the_carrier_that_all_have() -> None:
    crowd = [visit("carrier", tenure_days=0 if k % 10 == 0 else 50) for k in range(5_000)]
    flooded = [*[visit("carrier", tenure_days=0)] * 1_000, *crowd[:300]]
    assert admitted(crowd, flooded) >= 270


def test_a_farm_does_not_silence_a_market_where_everybody_is_young() -> None:
    crowd = [visit(f"o{k % 900}", tenure_days=0) for k in range(5_000)]
    flooded = [*[visit("farm", tenure_days=0)] * 1_000, *crowd[:300]]
    assert 280 < admitted(crowd, flooded) < 320


def test_a_source_of_many_is_heard_again_when_others_have_come() -> None:
    """Three in four are young: six of them first are too much, but not for long."""
    crowd = [visit(tenure_days=50 if k % 4 == 0 else 0) for k in range(5_000)]
    upload = [*[visit(tenure_days=0)] * 6, *[visit(tenure_days=50)] * 2, *crowd[:200]]
    assert admitted(crowd, upload) > 200


def test_a_farm_in_a_country_of_its_own_is_still_a_farm() -> None:
    large = [visit(f"o{k % 3000}") for k in range(50_000)]
    farm = [visit("farm", country="XX")] * 300
    assert admitted(large, farm, home="GB") < 20


def test_honest_evidence_is_hardly_ever_cut() -> None:
    rng = np.random.default_rng(12)
    origins, tenures = rng.integers(0, 2000, 40_000), rng.integers(0, 100, 40_000)
    users = [visit(f"o{o}", int(t)) for o, t in zip(origins, tenures, strict=True)]
    for n in (100, 300, 3000):
        upload = users[20_000 : 20_000 + n]
        assert admitted(users[:20_000], upload, accounts=n <= 300) > 0.95 * n


def test_where_nobody_tells_an_address_nothing_is_cut() -> None:
    evidence = Evidence()
    assert all(evidence.admit(ANYBODY, Guards(), UNKNOWN) for _ in range(1000))
    assert not evidence.origins.held


def users(n: int, first: int = 0) -> list[UserKey]:
    return [UserKey(f"user {k}") for k in range(first, first + n)]


@pytest.mark.parametrize("n", [300, 5_000])
def test_an_account_counts_once_and_others_in_between_do_not_change_that(n: int) -> None:
    evidence, ann = Evidence(), UserKey("ann")
    assert evidence.admit(ANYBODY, Guards(), ann)
    for user in users(n):
        evidence.admit(ANYBODY, Guards(), user)
        assert not evidence.admit(ANYBODY, Guards(), ann)
    assert evidence.cut >= n


def test_few_accounts_are_taken_for_known_ones_as_the_filter_s_fill_says() -> None:
    lost = []
    for k in range(40):
        evidence = Evidence()
        counts = [evidence.admit(ANYBODY, Guards(), u) for u in users(300, 1000 * k)]
        lost.append(counts.count(False))
    # Of n accounts at N_BITS places: n - N_BITS (1 - (1 - 1 / N_BITS)^n) lost, nearly Poisson.
    expected = 300 - N_BITS * (1.0 - (1.0 - 1.0 / N_BITS) ** 300)
    assert abs(np.mean(lost) - expected) < 4.0 * math.sqrt(expected / len(lost))
    assert expected < 0.01 * 300


def test_the_further_impressions_of_an_account_do_not_speak_against_its_origin() -> None:
    evidence, source = Evidence(), TrafficSource(3, 0.01, False, 1.0)
    assert evidence.admit(source, Guards(), UserKey("ann"))
    for _ in range(50):
        assert not evidence.admit(source, Guards(), UserKey("ann"))
    assert (evidence.origins.of(3), evidence.cut) == (1, 50)
    assert evidence.admit(source, Guards(), UserKey("bob"))


def test_an_account_that_was_cut_off_for_its_origin_was_not_counted_yet() -> None:
    evidence, guards = Evidence(), Guards(at_least=1)
    farm = TrafficSource(3, 0.001, False, 1.0)
    assert evidence.admit(farm, guards, UserKey("ann"))
    assert not evidence.admit(farm, guards, UserKey("bob"))
    assert evidence.admit(ANYBODY, guards, UserKey("bob"))


def test_after_a_move_every_account_counts_again() -> None:
    evidence, ann = Evidence(), UserKey("ann")
    assert [evidence.admit(ANYBODY, Guards(), ann) for _ in range(2)] == [True, False]
    evidence.forget_half()
    assert [evidence.admit(ANYBODY, Guards(), ann) for _ in range(2)] == [True, False]


def test_without_guards_every_impression_counts() -> None:
    evidence, free = Evidence(), Guards(enabled=False)
    assert all(evidence.admit(ANYBODY, free, UserKey("ann")) for _ in range(9))
    assert (evidence.counted, evidence.cut, evidence.accounts.n) == (9.0, 0, 0)


def test_the_filter_begins_anew_when_it_is_half_full() -> None:
    evidence, ann = Evidence(), UserKey("ann")
    evidence.admit(ANYBODY, Guards(), ann)
    fill = []
    for user in users(12_000):
        evidence.admit(ANYBODY, Guards(), user)
        fill.append(evidence.accounts.n)
    assert max(fill) == N_BITS // 2
    assert fill[-1] < 1_000
    assert evidence.admit(ANYBODY, Guards(), ann)


@pytest.mark.parametrize("n", [0, 5, 1_000, 1_050, 4_000, 12_000])
def test_evidence_goes_on_from_its_bytes_which_stay_few(n: int) -> None:
    live = Evidence()
    for user in users(n):
        live.admit(ANYBODY, Guards(), user)
    stored = msgspec.msgpack.encode(live)
    assert len(stored) < 2_048 + 400
    restored = msgspec.msgpack.decode(stored, type=Evidence)
    for user in (*users(9), *users(2_000, first=n)):
        assert restored.admit(ANYBODY, Guards(), user) == live.admit(ANYBODY, Guards(), user)
    assert msgspec.msgpack.encode(restored) == msgspec.msgpack.encode(live)


def test_the_filter_keeps_all_it_holds_when_it_turns_into_bits() -> None:
    evidence, counted = Evidence(), []
    for user in users(1_200):
        if evidence.admit(ANYBODY, Guards(), user):
            counted.append(user)
        held = evidence.accounts
        assert held.n == len(counted)
        assert len(held.held) == (2 * held.n if held.n < 1_024 else 2_048)
    assert len(counted) > 1_100
    assert all(user in evidence.accounts for user in counted)


@pytest.mark.parametrize("n", [0, 100, 511, 512, 3_000, 200_000])
def test_counts_by_origin_are_exact_and_half_of_them_is_half_of_each(n: int) -> None:
    rng = np.random.default_rng(n)
    buckets = rng.choice([0, 3, 255, *rng.integers(0, N_BUCKETS, 40)], n)
    origins = Origins()
    for bucket in buckets.tolist():
        origins.note(bucket)
    counts = np.bincount(buckets, minlength=N_BUCKETS)
    assert [origins.of(bucket) for bucket in range(N_BUCKETS)] == counts.tolist()
    origins.forget_half()
    assert [origins.of(bucket) for bucket in range(N_BUCKETS)] == (counts // 2).tolist()
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(origins), type=Origins)
    assert len(restored.held) <= 512
    for bucket in buckets[:600].tolist():
        origins.note(bucket)
        restored.note(bucket)
    assert restored == origins


def test_a_count_by_origin_does_not_overflow() -> None:
    origins = Origins()
    for _ in range(70_000):
        origins.note(5)
    assert (origins.of(5), origins.of(4), origins.of(6)) == (65_535, 0, 0)


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_heard_is_what_would_be_admitted(enabled: bool) -> None:
    rng, guards = np.random.default_rng(3), Guards(enabled=enabled)
    traffic, evidence, heard = Traffic(), Evidence(), []
    for _ in range(500):
        traffic.fold(visit(f"o{rng.integers(50)}", int(rng.choice([1, 100], p=[0.1, 0.9]))), 7)
    traffic.freeze(0)
    for k in range(600):
        scene = visit(f"o{rng.integers(3)}", int(rng.choice([1, 100])))
        traffic.fold(scene, guards.young_days)
        source = traffic.source(scene, guards.young_days, "GB", born_ms=0)
        heard.append(evidence.hears(source, guards))
        assert evidence.admit(source, guards, UserKey(f"u{k}")) == heard[-1]
    assert any(heard)
    assert all(heard) != enabled
