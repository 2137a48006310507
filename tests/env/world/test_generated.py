from collections import Counter

import numpy as np
import pytest

from env.reward import is_long_view, is_valid_play
from env.world import generated
from env.world.responses import generated as generated_responses
from env.world.user import simulated_users
from env.world.world import make_world

NOW_MS = 1_700_000_000_000
MARKETS = {"GB", "US", "ID", "MY", "TH", "VN", "SG", "PH"}


def test_a_generated_catalogue_is_plausible_and_the_same_for_the_same_seed() -> None:
    items = generated.catalogue(seed=1, n=2_000, now_ms=NOW_MS)
    assert items == generated.catalogue(seed=1, n=2_000, now_ms=NOW_MS)
    assert items != generated.catalogue(seed=2, n=2_000, now_ms=NOW_MS)
    assert len({item.item_id for item in items}) == 2_000
    assert {item.country for item in items} == MARKETS
    assert all(item.title and item.tags and item.creator for item in items)
    assert all(5.0 <= (item.duration_s or 0.0) <= 600.0 for item in items)
    assert all(0 <= NOW_MS - item.published_ms <= 30 * 86_400_000 for item in items)
    uploads = np.sort(np.unique([item.creator for item in items], return_counts=True)[1])
    assert uploads[-len(uploads) // 5 :].sum() > 0.5 * uploads.sum()  # a fifth makes half of it


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_language_has_enough_items_for_the_first_pages_of_its_audience(seed: int) -> None:
    items = generated.catalogue(seed=seed, n=2_000, now_ms=NOW_MS)
    counts = Counter(item.language for item in items)
    spoken = {language for market in generated.MARKETS for language in market.languages}
    assert set(counts) == spoken | {"zxx"}
    for language in spoken:
        with_words = [item for item in items if item.language == language]
        assert len(with_words) > 0.07 * len(items), language
        assert len(with_words) + counts["zxx"] >= generated.LEAST_SHARE * len(items), language
        assert len({item.creator for item in with_words}) >= 8, language
        homes = {m.country for m in generated.MARKETS if language in m.languages}
        assert {item.country for item in with_words} <= homes
        assert all(item.markets in ((), (item.country,)) for item in with_words)
    for item in items:
        assert (item.language == "zxx") <= (item.tags[0] in generated.WORDLESS)
        if item.language not in ("en", "zxx"):
            word = generated.TOPICS[item.tags[0]].get(item.language, item.tags[0])
            assert item.title.startswith(f"{word} · ")


def test_one_item_is_a_catalogue_too() -> None:
    assert len(generated.catalogue(seed=1, n=1, now_ms=NOW_MS)) == 1


def test_generated_users_live_in_the_markets_and_speak_their_languages() -> None:
    users = generated.users(seed=1, n=500, now_ms=NOW_MS)
    assert users == generated.users(seed=1, n=500, now_ms=NOW_MS)
    assert {profile.country for _, profile in users} == MARKETS
    spoken = {market.country: market.languages for market in generated.MARKETS}
    assert all(profile.language in spoken[profile.country] for _, profile in users)
    assert all(profile.registered_ms < NOW_MS for _, profile in users)


def test_generated_users_swipe_about_like_those_of_kuairand() -> None:
    """.46 valid plays and .33 long views, to a tenth: the generated videos are shorter."""
    items = generated.catalogue(seed=1, n=1_000, now_ms=NOW_MS)
    world = make_world(generated_responses(), items, seed=1)
    rng = np.random.default_rng(0)
    valid, long = [], []
    for user in simulated_users(world, generated.users(seed=1, n=200, now_ms=NOW_MS)):
        for k in rng.integers(0, len(items), 20):
            feedback = user.answer(items[k].item_id, rng)
            duration_s = items[k].duration_s or 0.0
            valid.append(is_valid_play(feedback.dwell_s, duration_s))
            long.append(is_long_view(feedback.dwell_s, duration_s))
    assert 0.9 * 0.46 < np.mean(valid) < 1.1 * 0.46
    assert 0.9 * 0.33 < np.mean(long) < 1.1 * 0.33
