from dataclasses import replace

import msgspec
import numpy as np
import pytest
from small_worlds import PRESET

from env.vocabulary import Ints
from env.world import generated
from env.world.creators import TRIAL_DAYS, TRIALS, LiveSupply, poisson, response_model
from env.world.presets import Preset, UploadRates
from env.world.responses import generated as generated_responses
from env.world.supply import (
    EVERYWHERE,
    ITEM_FACTS,
    LIKED,
    LONG,
    N_EVENT_CODES,
    PLAYED,
    FixedSupply,
    RecordedSupply,
    RecordingSupply,
    Stock,
    stock_of,
)
from env.world.world import APPEAL, BAIT, make_world, topics

N_ITEMS = PRESET.uploads.n_items


def nothing(n: int = N_ITEMS) -> Ints:
    return np.zeros((n, N_EVENT_CODES), dtype=np.int64)


def uploading(**changes: object) -> Preset:
    return msgspec.structs.replace(
        PRESET, uploads=msgspec.structs.replace(PRESET.uploads, **changes)
    )


def fact(stock: Stock, name: str) -> np.ndarray:
    return stock.table[:, stock.n_dims + ITEM_FACTS.index(name)]


def test_the_same_seed_makes_the_same_items_day_after_day() -> None:
    one, two, other = LiveSupply(PRESET, 3), LiveSupply(PRESET, 3), LiveSupply(PRESET, 4)
    for _ in range(5):
        assert np.array_equal(one.stock.table, two.stock.table)
        assert np.array_equal(one.stock.columns, two.stock.columns)
        assert not np.array_equal(one.stock.columns, other.stock.columns)
        for supply in (one, two, other):
            supply.pass_day(nothing())


def test_a_supply_that_starts_again_is_as_it_was() -> None:
    supply = LiveSupply(PRESET, 3)
    first = supply.stock
    for _ in range(10):
        supply.pass_day(nothing())
    assert not supply.is_active.all()
    supply.restart()
    assert np.array_equal(supply.stock.table, first.table)
    assert supply.is_active.all()


def test_an_upload_takes_the_place_of_the_oldest() -> None:
    supply = LiveSupply(PRESET, 0)
    before = supply.stock
    supply.pass_day(nothing())
    after = supply.stock
    is_new = after.serial != before.serial
    n = int(is_new.sum())
    assert n > 0
    assert sorted(before.serial[is_new]) == list(range(n))
    assert sorted(after.serial[is_new]) == list(range(N_ITEMS, N_ITEMS + n))
    assert (after.published[is_new] == 1.0).all()
    assert (after.counts[:, is_new] == 0.0).all()
    assert np.array_equal(after.columns[:, ~is_new], before.columns[:, ~is_new])
    assert (fact(after, "log_age")[is_new] == 0.0).all()
    assert (fact(after, "log_age")[~is_new] > fact(before, "log_age")[~is_new]).all()


def test_an_item_does_not_depend_on_what_is_uploaded_beside_it() -> None:
    few, many = LiveSupply(uploading(a_day=5.0), 1), LiveSupply(uploading(a_day=50.0), 1)
    assert np.array_equal(few.stock.vectors, many.stock.vectors)


def test_vectors_are_of_unit_length_and_near_their_creators_direction() -> None:
    stock = LiveSupply(uploading(creator_focus=0.8), 0).stock
    np.testing.assert_allclose((stock.vectors**2).sum(axis=0), 1.0)
    assert np.array_equal(topics(stock.vectors.T), stock.topic)
    same = stock.creator[:, None] == stock.creator[None, :]
    np.fill_diagonal(same, val=False)
    cosine = stock.vectors.T @ stock.vectors
    assert abs(cosine[same].mean() - 0.64) < 0.05
    apart = stock.creator[:, None] != stock.creator[None, :]
    assert abs(cosine[apart].mean()) < 0.1


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_what_was_shown_is_counted_by_what_happened(weight: float) -> None:
    supply = LiveSupply(uploading(exposures_per_swipe=weight), 0)
    before = supply.stock.counts
    shown = nothing()
    shown[599, 0], shown[599, PLAYED], shown[599, PLAYED | LONG | LIKED] = 5, 3, 2
    supply.pass_day(shown)
    gained = supply.stock.counts - before
    assert gained[:, 599].tolist() == [10.0, 5.0, 2.0, 2.0]
    assert fact(supply.stock, "log_exposures")[599] > np.log1p(before[0, 599]).astype(np.float32)


def test_rates_are_posterior_means_that_sharpen_with_exposures() -> None:
    stock = LiveSupply(PRESET, 0).stock
    seen = replace(stock, counts=np.array([[1000.0], [800.0], [500.0], [100.0]]) * np.ones(stock.n))
    unseen = replace(stock, counts=np.zeros((4, stock.n)))
    np.testing.assert_allclose(fact(seen, "valid_play_log_odds"), np.log(0.8 / 0.2), atol=0.05)
    np.testing.assert_allclose(fact(unseen, "long_view_rate"), 0.33, atol=1e-6)
    assert (fact(seen, "valid_play_sd") < 0.2 * fact(unseen, "valid_play_sd")).all()


def test_the_bait_that_a_server_sees_is_a_guess() -> None:
    stock = LiveSupply(PRESET, 0).stock
    guess, bait = fact(stock, "bait_guess"), stock.columns[BAIT]
    correlation = np.corrcoef(guess, bait)[0, 1]
    assert 0.4 < correlation < 0.9


def test_the_first_items_were_met_as_often_as_the_model_says() -> None:
    stock = LiveSupply(PRESET, 0).stock
    played = np.corrcoef(fact(stock, "valid_play_log_odds"), stock.columns[APPEAL])[0, 1]
    assert played > 0.6
    assert (stock.counts[1:] <= stock.counts[0]).all()


def seen_by_all(supply: LiveSupply, n_times: int) -> None:
    shown = nothing()
    shown[:, 0] = n_times
    supply.pass_day(shown)


def test_creators_whom_nobody_sees_give_up_and_upload_no_more() -> None:
    unseen, seen = LiveSupply(uploading(give_up=1.0), 0), LiveSupply(uploading(give_up=1.0), 0)
    for _ in range(3 * (TRIAL_DAYS + TRIALS)):
        unseen.pass_day(nothing())
        seen_by_all(seen, 10)
    assert seen.is_active.all()
    assert unseen.is_active.mean() < 0.7
    gone = ~unseen.is_active
    latest = int(unseen.stock.serial.max())
    for _ in range(10):
        unseen.pass_day(nothing())
    new = unseen.stock.serial > latest
    assert new.any()
    assert not gone[unseen.stock.creator[new]].any()


def active_after(supply: LiveSupply, n_times: int) -> float:
    """Return the share of creators who are left if every item is shown so often a day."""
    for _ in range(3 * (TRIAL_DAYS + TRIALS)):
        seen_by_all(supply, n_times)
    return float(supply.is_active.mean())


def test_a_card_counts_as_the_exposures_of_the_users_it_stands_for() -> None:
    # 2 exposures a day are 6 in three days, below the audience of 10.
    assert active_after(LiveSupply(uploading(give_up=1.0), 0), 2) < 0.7
    assert active_after(LiveSupply(uploading(give_up=1.0, exposures_per_swipe=2.0), 0), 2) == 1.0


@pytest.mark.parametrize("a_day", [1, 50])
def test_an_even_share_of_what_is_shown_contents_creators_however_little_it_is(a_day: int) -> None:
    even, half = (
        LiveSupply(uploading(give_up=1.0), 0, cards_a_day=share * a_day * N_ITEMS)
        for share in (1.0, 2.1)
    )
    assert active_after(even, a_day) == 1.0
    assert active_after(half, a_day) < 0.7


def test_a_creator_goes_on_as_long_as_giving_up_has_no_chance() -> None:
    supply = LiveSupply(uploading(give_up=0.0), 0)
    for _ in range(20):
        supply.pass_day(nothing())
    assert supply.is_active.all()


def test_a_fixed_supply_stays_and_a_recorded_one_repeats() -> None:
    recording = RecordingSupply(LiveSupply(PRESET, 0))
    for _ in range(3):
        recording.pass_day(nothing())
    stocks = recording.stocks
    assert len(stocks) == 4
    replayed = RecordedSupply(stocks)
    for stock in stocks[1:]:
        replayed.pass_day(nothing())
        assert replayed.stock is stock
    with pytest.raises(IndexError, match="ends after 4 days"):
        replayed.pass_day(nothing())
    replayed.restart()
    assert replayed.stock is stocks[0]
    fixed = FixedSupply(stocks[0])
    fixed.pass_day(nothing())
    assert fixed.stock is stocks[0]
    with pytest.raises(ValueError, match="at least one day's stock"):
        RecordedSupply([])


def test_local_items_are_a_share_and_every_class_has_one_for_all() -> None:
    stock = LiveSupply(uploading(local_share=0.5, n_items=4_000), 0).stock
    local = (stock.market != EVERYWHERE)[128:]
    assert abs(local.mean() - 0.5) <= 4.5 * 0.5 / len(local) ** 0.5
    assert (stock.market[:128] == EVERYWHERE).all()


def test_a_world_is_a_stock() -> None:
    items = generated.catalogue(seed=1, n=80, now_ms=1_700_000_000_000)
    world = make_world(generated_responses(), items, seed=1)
    stock = stock_of(world)
    assert np.array_equal(stock.columns, world.columns)
    assert np.array_equal(stock.vectors.T, world.vectors)
    assert stock.table.shape == (80, world.vectors.shape[1] + len(ITEM_FACTS))


def test_the_model_of_a_preset_has_its_constants() -> None:
    model = response_model(PRESET)
    assert (model.rates, model.priors, model.intercept) == (
        PRESET.rates,
        PRESET.priors,
        PRESET.intercept,
    )


@pytest.mark.parametrize("rate", [0.01, 0.7, 12.0])
def test_uploads_are_poisson(rate: float) -> None:
    n = 50_000
    counts = poisson(np.full(n, rate), np.random.default_rng(0).random(n))
    assert abs(counts.mean() - rate) <= 4.5 * (rate / n) ** 0.5
    assert abs(counts.var() / rate - 1.0) <= 4.5 * ((2.0 + 1.0 / rate) / n) ** 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_share": 1.2}, r"a probability in \[0, 1\] for UploadRates.local_share, got 1.2"),
        ({"give_up": -0.1}, r"a probability in \[0, 1\] for UploadRates.give_up, got -0.1"),
        ({"n_items": 0}, "above 0 for UploadRates.n_items, got 0"),
        ({"n_dims": 4}, "5 to 128 for UploadRates.n_dims, got 4"),
        ({"n_dims": 129}, "5 to 128 for UploadRates.n_dims, got 129"),
    ],
)
def test_uploads_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UploadRates(**changes)  # type: ignore[arg-type] # a field at a time
