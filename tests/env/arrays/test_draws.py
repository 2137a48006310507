import numpy as np
import pytest

from env.arrays.draws import N_LANES, halves, life_keys, mix, normals, shorts, uniforms, words
from env.vocabulary import Floats

N = 40_000


def keys_of(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    return life_keys(np.arange(n), np.zeros(n, dtype=np.int64)), np.full(n, 3)


def test_words_are_those_of_splitmix64() -> None:
    # Its first three outputs after seed 1234567, as of the reference implementation.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    key = np.array([1234567 + 0x9E3779B97F4A7C15], dtype=np.uint64)
    drawn = words(key, np.array([0]), first=0, n_lanes=3)
    assert drawn[:, 0].tolist() == expected


@pytest.mark.parametrize("index", [0, 1, 17, N - 1])
def test_everybody_draws_alone_what_they_draw_in_a_crowd(index: int) -> None:
    keys, cards = keys_of()
    mine = slice(index, index + 1)
    for draw in (uniforms, normals):
        together, alone = draw(keys, cards, 5, 9), draw(keys[mine], cards[mine], 5, 9)
        assert np.array_equal(together[:, mine], alone)
    assert np.array_equal(shorts(keys, cards, 5, 9)[mine], shorts(keys[mine], cards[mine], 5, 9))


def test_a_card_never_draws_the_words_of_another() -> None:
    key = np.repeat(life_keys(np.array([7]), np.array([0])), 4)
    drawn = words(key, np.arange(4), first=0, n_lanes=N_LANES)
    assert len(np.unique(drawn)) == drawn.size


def test_other_seeds_and_episodes_are_other_lives() -> None:
    seeds, episodes = np.meshgrid(np.arange(200), np.arange(50))
    assert len(np.unique(life_keys(seeds.ravel(), episodes.ravel()))) == seeds.size


def test_uniforms_and_shorts_are_the_same_words() -> None:
    keys, cards = keys_of(100)
    numbers = halves(words(keys, cards, 5, 2))
    assert np.array_equal(uniforms(keys, cards, 5, 4), numbers / 2.0**32)
    by_row = shorts(keys, cards, 5, 4)
    assert np.array_equal(by_row.T[[0, 2, 1, 3]].astype(np.float64), numbers)


def is_near(values: Floats, mean: float, sd: float) -> bool:
    return bool(abs(float(values.mean()) - mean) <= 4.5 * sd / values.size**0.5)


def test_uniforms_are_uniform_and_independent() -> None:
    u = uniforms(*keys_of(), first=0, n=8)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    for row in u:
        assert is_near(row, 0.5, 12.0**-0.5)
        counts = np.histogram(row, bins=64, range=(0.0, 1.0))[0]
        chi2 = float(((counts - N / 64) ** 2 / (N / 64)).sum())
        assert abs(chi2 - 63.0) <= 4.5 * (2.0 * 63.0) ** 0.5
    across = np.asarray(np.corrcoef(u))[np.triu_indices(8, 1)]
    assert np.abs(across).max() <= 4.5 / N**0.5


def test_normals_are_standard_normal_and_independent() -> None:
    z = normals(*keys_of(), first=0, n=6)
    for row in z:
        assert is_near(row, 0.0, 1.0)
        assert is_near(row**2, 1.0, 2.0**0.5)
        assert is_near(row**3, 0.0, 15.0**0.5)
        assert is_near(row**4, 3.0, 96.0**0.5)
    assert np.abs(np.asarray(np.corrcoef(z))[np.triu_indices(6, 1)]).max() <= 4.5 / N**0.5


def test_neighbouring_seeds_and_cards_are_independent() -> None:
    keys, cards = keys_of()
    now, after = uniforms(keys, cards, 0, 1)[0], uniforms(keys, cards + 1, 0, 1)[0]
    assert abs(np.asarray(np.corrcoef(now, after))[0, 1]) <= 4.5 / N**0.5
    assert abs(np.asarray(np.corrcoef(now[1:], now[:-1]))[0, 1]) <= 4.5 / N**0.5


def test_mixing_is_one_to_one() -> None:
    assert len(np.unique(mix(np.arange(100_000, dtype=np.uint64)))) == 100_000
