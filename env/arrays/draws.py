"""Random numbers that are a function of who draws and when, not of who drew before.

Every life has a key, and its number in lane l of card t is

    mix(key + (256 t + l) * golden)

with the finaliser and the golden ratio of SplitMix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014). So user i of a vector draws what they draw alone,
whatever the size of the vector and however many lanes the others use.

A word of 64 bits gives two uniforms of 32 bits: a probability is met to 2.4e-10.
Rejected: a generator a user (a Python call each), numpy's Philox (its counter is per stream, not
per element), and 53-bit uniforms (twice the words, for events no rarer than 1e-4).
"""

from typing import cast

import numpy as np

from env.vocabulary import Floats, Ints, Keys, ShortKeys

N_LANES = 256

BIRTH = 0
"""The card under whose number a life draws who it is; its cards are 1, 2, .."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)

_FIRST = np.uint64(0xBF58476D1CE4E5B9)

_SECOND = np.uint64(0x94D049BB133111EB)

_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

_HALF = 2.0**-32

_TAU = 2.0 * np.pi


def mix(z: Keys) -> Keys:
    """Scramble words in place and return them: SplitMix64's finaliser.

    >>> words = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)  # the first state after seed 0
    >>> hex(int(mix(words)[0]))
    '0xe220a8397b1dcdaf'
    """
    shifted = z >> _SHIFTS[0]
    z ^= shifted
    z *= _FIRST
    np.right_shift(z, _SHIFTS[1], out=shifted)
    z ^= shifted
    z *= _SECOND
    np.right_shift(z, _SHIFTS[2], out=shifted)
    z ^= shifted
    return z


def life_keys(seeds: Ints, episodes: Ints) -> Keys:
    """Return the key of each life, shape (n,).

    Args:
        seeds: of the environment's slots, shape (n,).
        episodes: number of the life in its slot, shape (n,).
    """
    keys = mix(seeds.astype(np.uint64) + GOLDEN)
    return mix(keys + (episodes.astype(np.uint64) + np.uint64(1)) * GOLDEN)


def words(keys: Keys, cards: Ints, first: int, n_lanes: int) -> Keys:
    """Return n_lanes words for each key, shape (n_lanes, n).

    Args:
        keys: see `life_keys`, shape (n,).
        cards: number of the card that each life is at, >= 0, shape (n,).
        first: lane; first + n_lanes <= N_LANES.
        n_lanes: >= 1.
    """
    return mix(_base(keys, cards, first) + _steps(n_lanes)[:, None])


def uniforms(keys: Keys, cards: Ints, first: int, n: int) -> Floats:
    """Return n uniforms in [0, 1) for each key, shape (n, n_keys), each row contiguous.

    They take the lanes first to first + (n + 1) // 2.
    """
    drawn = halves(words(keys, cards, first, (n + 1) // 2))
    drawn *= _HALF
    return drawn[:n]


def shorts(keys: Keys, cards: Ints, first: int, n: int) -> ShortKeys:
    """Return n numbers of 32 bits for each key, shape (n_keys, n): halves of words, by rows.

    They take the lanes first to first + (n + 1) // 2.
    """
    n_lanes = (n + 1) // 2
    drawn = mix(_base(keys, cards, first)[:, None] + _steps(n_lanes))
    return cast("ShortKeys", drawn.view("<u4"))[:, :n]


def normals(keys: Keys, cards: Ints, first: int, n: int) -> Floats:
    """Return n standard normals for each key, shape (n, n_keys), by Box and Muller (1958).

    They take the lanes first to first + (n + 1) // 2; none is beyond 6.8 in size.
    """
    n_lanes = (n + 1) // 2
    drawn = halves(words(keys, cards, first, n_lanes))
    radius, angle = drawn[:n_lanes], drawn[n_lanes:]
    radius += 0.5
    radius *= _HALF
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= _TAU * _HALF
    sine = np.sin(angle)
    np.cos(angle, out=angle)
    angle *= radius
    radius *= sine
    return drawn[:n]


def halves(drawn: Keys) -> Floats:
    """Return the low halves of words, then their high halves, as whole numbers.

    Args:
        drawn: shape (n_lanes, n).

    Returns:
        Shape (2 n_lanes, n), in [0, 2^32).
    """
    n_lanes, n = drawn.shape
    numbers = np.empty((2 * n_lanes, n))
    split = cast("Keys", drawn.view("<u4")).reshape(n_lanes, n, 2)
    numbers[:n_lanes] = split[:, :, 0]
    numbers[n_lanes:] = split[:, :, 1]
    return numbers


def _base(keys: Keys, cards: Ints, first: int) -> Keys:
    counts = cards.astype(np.uint64) * np.uint64(N_LANES) + np.uint64(first)
    return keys + counts * GOLDEN


def _steps(n_lanes: int) -> Keys:
    return np.arange(n_lanes, dtype=np.uint64) * GOLDEN
