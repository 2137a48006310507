"""Item states: a deterministic fold, a posterior that is honest, popularity that fades."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, PLAYED, SKIPPED, catalogue_named, folded, interaction, make_item, put

from env.items.catalogue import Catalogue
from env.items.popularity import PRIOR_PLAYS
from env.items.statistics import _LIKES, _LONG, _VALID, HALF_LIFE_MS, Aligned, ItemStates, Prior
from env.vocabulary import Feedback, Interaction, ItemId, Scene

CUT_OFF = Feedback(seen=True, left=False, dwell_s=10.0)
HERE = Scene(NOW_MS, country="GB")
THERE = Scene(NOW_MS, country="TH")


def align(names: str, *interactions: Interaction, prior: Prior | None = None) -> Aligned:
    return folded(interactions, ItemStates(prior)).aligned(catalogue_named(names.split()))


def counts_of(states: ItemStates, name: str) -> list[float]:
    """Return what was counted of an item, without its rewards and popularity."""
    counts: list[float] = states._table[states._rows.get(ItemId(name), 0), : _LIKES + 1].tolist()
    return counts


def a_stream(n: int, seed: int = 3) -> list[Interaction]:
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.uniform(0, 24 * 150, n))
    return [
        interaction(
            f"i{rng.integers(2000)}",
            Feedback(seen=True, left=bool(rng.random() < 0.9), dwell_s=float(rng.exponential(12))),
            reward=float(rng.random()),
            scene=Scene(0, country=("GB", "TH", "")[rng.integers(3)], hour=int(hours[k]) % 24),
            at_ms=NOW_MS + int(hours[k] * 3_600_000),
        )
        for k in range(n)
    ]


def test_counts_are_what_happened() -> None:
    liked = msgspec.structs.replace(PLAYED, like=True, dwell_s=20.0)
    states = folded([interaction("a"), interaction("a", liked), interaction("a", SKIPPED)])
    items = states.aligned(catalogue_named(["a", "b"]))
    assert items.impressions.tolist() == [3, 0]
    assert items.rewarded.tolist() == [3, 0]
    assert counts_of(states, "a")[_VALID] == 2
    assert counts_of(states, "a")[_LONG] == 1
    assert counts_of(states, "a")[_LIKES] == 1
    assert counts_of(states, "b") == [0.0] * 5


def test_a_censored_card_is_an_impression_without_a_reward() -> None:
    states = folded([interaction("a", CUT_OFF, reward=-1.0)])
    items = states.aligned(catalogue_named(["a"]))
    assert (items.impressions[0], items.rewarded[0]) == (1, 0)
    assert counts_of(states, "a")[_VALID] == 1
    assert items.reward_mean[0] == Prior().mean
    assert items.reward_sd[0] == pytest.approx(Prior().item_sd)


def test_what_a_guard_cut_off_is_an_impression_and_nothing_else() -> None:
    liked = msgspec.structs.replace(PLAYED, like=True, dwell_s=20.0)
    states = ItemStates()
    states.fold(interaction("a", liked, reward=4.0), counted=False)
    items = states.aligned(catalogue_named(["a"]))
    assert items.impressions[0] == 1
    assert items.rewarded[0] == 0
    assert counts_of(states, "a") == [1, 0, 0, 0, 0]
    assert items.reward_mean[0] == Prior().mean
    assert items.popularity.here(HERE).plays[0] == 0.0


def test_an_item_without_evidence_has_the_prior() -> None:
    items = align("a b")
    assert items.reward_mean.tolist() == [Prior().mean] * 2
    assert items.reward_sd == pytest.approx(np.full(2, Prior().item_sd))
    assert items.popularity.everywhere.plays.tolist() == [0.0, 0.0]


def test_the_posterior_is_the_normal_one() -> None:
    prior = Prior(mean=0.5, mean_sd=1e-9, item_sd=0.2, noise_sd=0.7, noise_weight=1e12)
    rewards = (1.0, 0.0, 2.0, 1.0)
    items = align("a", *(interaction("a", reward=r) for r in rewards), prior=prior)
    precision = 1 / 0.2**2 + 4 / 0.7**2
    assert items.reward_mean[0] == pytest.approx((0.5 / 0.2**2 + 4.0 / 0.7**2) / precision)
    assert items.reward_sd[0] == pytest.approx(precision**-0.5)


def test_evidence_moves_what_is_believed_of_new_items() -> None:
    stream = [interaction(f"i{i % 40}", reward=2.0) for i in range(800)]
    items = align("new", *stream)
    assert 1.5 < items.reward_mean[0] < 2.0


def test_the_posterior_covers_the_truth_as_it_says() -> None:
    rng = np.random.default_rng(11)
    prior = Prior(mean=0.0, mean_sd=1.0, item_sd=0.3, noise_sd=0.3, noise_weight=1.0)
    n_items, truth = 600, rng.normal(0.8, 0.3, 600)
    shown = rng.integers(1, 30, n_items)
    stream = [
        interaction(f"i{i}", reward=float(rng.normal(truth[i], 0.9)))
        for i in range(n_items)
        for _ in range(shown[i])
    ]
    items = folded(stream, ItemStates(prior)).aligned(
        catalogue_named([f"i{i}" for i in range(n_items)])
    )
    z = (truth - items.reward_mean) / items.reward_sd
    # The common mean is estimated from 600 items, so its own error is small beside 1 / sqrt(600).
    assert abs(z.mean()) < 4 / math.sqrt(n_items)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n_items)


def test_popularity_halves_in_a_day() -> None:
    items = align(
        "old new skipped",
        interaction("old", at_ms=NOW_MS - HALF_LIFE_MS),
        interaction("new"),
        interaction("skipped", SKIPPED),
    )
    plays = items.popularity.everywhere.plays * items.scale(NOW_MS)
    assert plays == pytest.approx([0.5, 1.0, 0.0])
    assert items.popularity.everywhere.plays * items.scale(
        NOW_MS + 2 * HALF_LIFE_MS
    ) == pytest.approx(plays / 4)


def test_what_is_folded_late_weighs_what_it_should() -> None:
    early, late = interaction("a", at_ms=NOW_MS - 3 * HALF_LIFE_MS), interaction("b")
    in_order, reversed_ = align("a b", early, late), align("a b", late, early)
    assert in_order.popularity.everywhere.plays * in_order.scale(NOW_MS) == pytest.approx(
        reversed_.popularity.everywhere.plays * reversed_.scale(NOW_MS)
    )


def test_years_of_log_neither_overflow_nor_forget_the_present() -> None:
    days = range(0, 1500, 3)
    stream = [interaction(f"d{day}", at_ms=NOW_MS + day * HALF_LIFE_MS) for day in days]
    last_ms = stream[-1].closed_ms
    items = align(" ".join(f"d{day}" for day in days), *stream)
    plays = items.popularity.everywhere.plays * items.scale(last_ms)
    assert plays == pytest.approx([2.0 ** (day - days[-1]) for day in days], abs=1e-12)
    assert items.popularity.here(HERE).ranking[0] == len(days) - 1


def test_a_country_without_plays_of_its_own_has_everywheres_popularity() -> None:
    items = align("a b", interaction("a"), interaction("b"), interaction("b"))
    assert items.popularity.here(THERE) is items.popularity.everywhere
    assert items.popularity.everywhere.ranking.tolist() == [1, 0]


def test_a_countrys_own_plays_outweigh_everywheres_when_there_are_many() -> None:
    home = [interaction("a", scene=THERE)] * 3
    away = [interaction("b")] * 30
    few = align("a b c", *home, *away)
    assert few.popularity.here(THERE).ranking.tolist() == [1, 0]
    many = align("a b c", *home * 100, *away * 100)
    assert many.popularity.here(THERE).ranking.tolist() == [0, 1]
    assert many.popularity.here(HERE).ranking.tolist() == [1, 0]


def test_a_scenes_popularity_is_its_plays_and_those_around_them() -> None:
    evening = msgspec.structs.replace(THERE, hour=20)
    home, early = interaction("a", scene=evening), interaction("b", scene=THERE)
    items = align("a b", home, early, interaction("b"), interaction("b"))
    everywhere = np.array([1.0, 3.0])
    country = np.array([1.0, 1.0]) + PRIOR_PLAYS * everywhere / 4.0
    part = np.array([1.0, 0.0]) + PRIOR_PLAYS * country / (2.0 + PRIOR_PLAYS)
    plays = items.popularity.here(evening).plays * items.scale(NOW_MS)
    assert plays == pytest.approx(part)


def test_states_follow_a_growing_catalogue_and_further_folds() -> None:
    catalogue, states = catalogue_named(["a"]), folded([interaction("later"), interaction("a")])
    before = states.aligned(catalogue)
    assert before.impressions.tolist() == [1]
    assert states.aligned(catalogue) is before
    catalogue.apply(put(make_item("b")))
    catalogue.apply(put(make_item("later")))
    assert states.aligned(catalogue).impressions.tolist() == [1, 0, 1]
    states.fold(interaction("b"))
    states.fold(interaction("never uploaded"))
    assert states.aligned(catalogue).impressions.tolist() == [1, 1, 1]
    assert before.impressions.tolist() == [1]


def test_an_item_that_is_put_while_states_are_aligned_is_there_the_next_time() -> None:
    class Growing(list[ItemId]):
        """Ids to which an upload is added in the middle, as one on another thread would come."""

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            if "late" not in self:
                catalogue.apply(put(make_item("late")))
            return found

    catalogue, states = Catalogue(), folded([interaction("a"), interaction("late")])
    catalogue.ids = Growing()
    catalogue.apply(put(make_item("a")))
    assert states.aligned(catalogue).impressions.tolist() == [1]
    assert states.aligned(catalogue).impressions.tolist() == [1, 1]


def test_states_are_aligned_while_an_upload_is_half_in_the_catalogue() -> None:
    class Halfway(Catalogue):
        """Looks at an upload's states once its name stands there and not yet its columns."""

        seen: Aligned | None = None

        def __setattr__(self, name: str, value: object) -> None:
            if name != "seen" and "ids" in vars(self) and "half" in self.ids and not self.seen:
                self.seen = states.aligned(self)
                self.seen.popularity.interest(HERE, self.vectors)
            super().__setattr__(name, value)

    catalogue, states = Halfway(), folded([interaction("a"), interaction("half", scene=HERE)])
    catalogue.apply(put(make_item("a")))
    catalogue.apply(put(make_item("half")))
    assert catalogue.seen is not None
    assert catalogue.seen.impressions.tolist() == [1]
    assert states.aligned(catalogue).impressions.tolist() == [1, 1]


def test_states_may_be_aligned_with_one_catalogue_after_another() -> None:
    states = folded([interaction("a")])
    assert states.aligned(catalogue_named(["b", "a"])).impressions.tolist() == [0, 1]
    assert states.aligned(catalogue_named(["a", "b"])).impressions.tolist() == [1, 0]


def test_the_same_stream_gives_the_same_bytes_wherever_it_is_interrupted() -> None:
    stream = a_stream(3000)
    whole = folded(stream).to_bytes()
    for stop in (0, 1, 1500, 2999, 3000):
        resumed = ItemStates.from_bytes(folded(stream[:stop]).to_bytes())
        for each in stream[stop:]:
            resumed.fold(each)
        assert resumed.to_bytes() == whole


def test_aligning_changes_nothing_of_the_state() -> None:
    stream, catalogue = a_stream(400), catalogue_named([f"i{i}" for i in range(2000)])
    looked_at, left_alone = ItemStates(), ItemStates()
    for each in stream:
        looked_at.fold(each)
        left_alone.fold(each)
        looked_at.aligned(catalogue).popularity.here(HERE)
    assert looked_at.to_bytes() == left_alone.to_bytes()


def test_a_restored_state_says_what_the_live_one_says() -> None:
    live = folded(a_stream(1000), ItemStates(Prior(mean=0.3)))
    restored = ItemStates.from_bytes(live.to_bytes())
    catalogue = catalogue_named([f"i{i}" for i in range(2000)])
    a, b = live.aligned(catalogue), restored.aligned(catalogue)
    assert len(restored) == len(live)
    for name in ("impressions", "reward_mean", "reward_sd"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    for country in ("GB", "TH", "", "XX"):
        scene = Scene(0, country=country, hour=9)
        assert np.array_equal(a.popularity.here(scene).plays, b.popularity.here(scene).plays)


def test_bytes_that_are_no_state_are_refused() -> None:
    data = folded([interaction("a")]).to_bytes()
    with pytest.raises(msgspec.DecodeError):
        ItemStates.from_bytes(data[:-1])
    fields = msgspec.msgpack.decode(data)
    with pytest.raises(ValueError, match="expected 3 item states, got 2"):
        ItemStates.from_bytes(msgspec.msgpack.encode([*fields[:3], ["a", "b"], *fields[4:]]))
    broken = {"GB": (b"\0" * 8, b"\0" * 8)}
    with pytest.raises(ValueError, match="segment GB: expected 2 weights, got 1"):
        ItemStates.from_bytes(msgspec.msgpack.encode([*fields[:5], broken]))


def test_states_follow_uploads_as_if_they_were_aligned_anew() -> None:
    states = folded(a_stream(300))
    data, catalogue = states.to_bytes(), Catalogue()
    rng = np.random.default_rng(5)
    for k in range(120):
        name = f"i{rng.integers(2_000)}" if k % 3 else f"new{k}"
        catalogue.apply(put(make_item(name)))
        if k % 4 == 0:
            items = states.aligned(catalogue)
            anew = ItemStates.from_bytes(data).aligned(catalogue)
            for column in ("impressions", "rewarded", "reward_mean", "reward_sd", "best"):
                assert np.array_equal(getattr(items, column), getattr(anew, column)), column
            here, there = items.popularity.here(HERE), anew.popularity.here(HERE)
            every = np.arange(len(catalogue))
            assert here.at(every).tolist() == there.at(every).tolist()
