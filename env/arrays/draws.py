"""Random numbers as a function of a simulated user's key, card and lane, not of earlier draws.

The number in lane l of card t of a life is

    mix(key + (256 t + l) * golden)

with the finaliser and golden ratio of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). So user i of
a vector draws the numbers they would draw alone. Precision and rejected generators:
`docs/decisions/reproducible-arithmetic.md`.
"""

from typing import cast

import numpy as np

from env.vocabulary import Floats, Ints, Keys, ShortKeys

N_LANES = 256
BIRTH = 0
"""Card number under which a life draws its traits; its cards are 1, 2, .."""

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
    """Return the keys of lives, shape (n,), from slot seeds and numbers of the life in its slot."""
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

    Uses the lanes first to first + (n + 1) // 2.
    """
    drawn = halves(words(keys, cards, first, (n + 1) // 2))
    drawn *= _HALF
    return drawn[:n]


def shorts(keys: Keys, cards: Ints, first: int, n: int) -> ShortKeys:
    """Return n numbers of 32 bits for each key, shape (n_keys, n), contiguous by key.

    Uses the lanes first to first + (n + 1) // 2.
    """
    n_lanes = (n + 1) // 2
    drawn = mix(_base(keys, cards, first)[:, None] + _steps(n_lanes))
    return cast("ShortKeys", drawn.view("<u4"))[:, :n]


def normals(keys: Keys, cards: Ints, first: int, n: int) -> Floats:
    """Return n standard normals for each key, shape (n, n_keys), by Box and Muller (1958).

    Uses the lanes first to first + (n + 1) // 2; none is beyond 6.8 in size.
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
    """Return the low halves, then the high halves of words (n_lanes, n), as (2 n_lanes, n).

    Each is a whole number in [0, 2^32).
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
