"""What an ordinary item would have earned from this user at this place: the matched baseline.

Ridge regression of the reward on an intercept, on what the page says of the user and the place,
and on how well the card matches the user; on nothing that says which item it is, how popular it
is or what is in it. What a card earns beyond that (its uplift) is then its own, and not its
audience's: an upload that was shown to users who like everything is no better for it.

The regression is exact (normal equations, a Gaussian prior of mean 0; Bishop, "Pattern
Recognition and Machine Learning", 2006, section 3.3.1) and solved anew every `_SOLVE_EVERY`
interactions, in the beginning at each power of two. It is unbiased for uplift as far as the reward
is linear in these columns; what they do not tell of an audience is left in the uplift.

How good the item is known to be is in the regression as a control, and not in what is expected: a
policy shows a card for being good or for being a match, so where a match is poor the item is good,
and leaving that out takes most of its effect from the match (omitted variables: Angrist and
Pischke, "Mostly Harmless Econometrics", 2009, section 3.2.2).

Rejected: a mean of all columns for each item (exact, but it grows with the catalogue), the rank-one
update of the inverse (loses its symmetry over millions of interactions), and the policy's own
prediction (it knows the item, so uplift would vanish as it learns).
"""

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from env.columns.schema import DYNAMIC, SHARED, STATIC
from env.vocabulary import Floats, Interaction

PERSON_COLUMNS = (
    "hour_sin",
    "hour_cos",
    "position",
    "evidence",
    "swipe_speed",
    "play_rate",
    "session_play_rate",
)

MATCH_COLUMNS = (
    "long_match",
    "session_match",
    "creator_affinity",
    "followed",
    "tag_affinity",
    "same_country",
    "same_language",
)

CONTROL_COLUMNS = ("reward_mean",)

N_COLUMNS = 1 + len(PERSON_COLUMNS) + len(MATCH_COLUMNS)

_N_FITTED = N_COLUMNS + len(CONTROL_COLUMNS)

_SOLVE_EVERY = 256

_RIDGE = 1.0

_RIDGE_OF_INTERCEPT = 0.01


def _layout(names: Sequence[str], chosen: Sequence[str]) -> struct.Struct:
    return struct.Struct("<" + "".join("e" if name in chosen else "2x" for name in names))


_PERSON = _layout(SHARED, PERSON_COLUMNS)

_MATCH = _layout((*STATIC, *DYNAMIC), MATCH_COLUMNS)

_CONTROL = _layout((*STATIC, *DYNAMIC), CONTROL_COLUMNS)

_NO_CONTROL = (0.0,) * len(CONTROL_COLUMNS)

_NO_PERSON = (0.0,) * len(PERSON_COLUMNS)

_NO_MATCH = (0.0,) * len(MATCH_COLUMNS)


class MatchedBaseline:
    """The regression; a deterministic fold, whose bytes are the same wherever it was restarted."""

    def __init__(self) -> None:
        """Start without evidence: an expectation of 0."""
        self._moments = np.zeros((_N_FITTED + 1, _N_FITTED + 1))  # of the columns and the reward
        self._weights = [0.0] * N_COLUMNS
        self._waiting: list[tuple[float, ...]] = []
        self._n = 0

    def __len__(self) -> int:
        """Return how many interactions were folded."""
        return self._n

    def expect(self, interaction: Interaction) -> float:
        """Return the reward that is expected of an ordinary item in this interaction's place."""
        columns = _columns(interaction)
        return sum(w * x for w, x in zip(self._weights, columns, strict=True))

    def fold(self, interaction: Interaction) -> None:
        """Learn from an interaction whose reward is known."""
        controls = _controls(interaction)
        self._waiting.append((*_columns(interaction), *controls, interaction.reward))
        self._n += 1
        if len(self._waiting) == _SOLVE_EVERY or self._n & (self._n - 1) == 0:
            self._solve()

    def to_bytes(self) -> bytes:
        """Return the state; the same interactions give the same bytes."""
        waiting = np.array(self._waiting, dtype="<f8").tobytes()
        moments = self._moments.astype("<f8").tobytes()
        return msgspec.msgpack.encode(_Stored(self._n, moments, tuple(self._weights), waiting))

    @classmethod
    def from_bytes(cls, data: bytes) -> "MatchedBaseline":
        """Return the regression that `to_bytes` wrote.

        Raises:
            msgspec.DecodeError: the bytes are no state.
            ValueError: it is of other columns.
        """
        stored = msgspec.msgpack.decode(data, type=_Stored)
        baseline = cls()
        baseline._n, baseline._weights = stored.n, list(stored.weights)
        baseline._moments = _read(stored.moments)
        baseline._waiting = [tuple(row) for row in _read(stored.waiting).tolist()]
        if len(stored.weights) != N_COLUMNS or len(baseline._moments) != _N_FITTED + 1:
            raise ValueError(
                f"expected a baseline of {N_COLUMNS} columns, got {len(stored.weights)}"
            )
        return baseline

    def _solve(self) -> None:
        # Not by a product of matrices: that of BLAS rounds as its number of threads has it.
        rows = np.array(self._waiting)
        self._moments += np.einsum("ni,nj->ij", rows, rows)
        self._waiting.clear()
        prior = np.full(_N_FITTED, _RIDGE)
        prior[0] = _RIDGE_OF_INTERCEPT
        precision = self._moments[:-1, :-1] + np.diag(prior)
        fitted = np.linalg.solve(precision, self._moments[:-1, -1])
        # An ordinary item is one whose controls are those of all cards on average.
        usual = self._moments[0, N_COLUMNS:-1] / self._moments[0, 0]
        fitted[0] += float(np.sum(fitted[N_COLUMNS:] * usual))
        self._weights = fitted[:N_COLUMNS].tolist()


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="matched/2"):
    n: int
    moments: bytes
    weights: tuple[float, ...]
    waiting: bytes


def _columns(interaction: Interaction) -> tuple[float, ...]:
    """Return the intercept and the columns; those that an interaction lacks are 0."""
    shared, action = interaction.shared, interaction.action
    user = _PERSON.unpack(shared) if len(shared) == _PERSON.size else _NO_PERSON
    match = _MATCH.unpack(action) if len(action) == _MATCH.size else _NO_MATCH
    return (1.0, *user, *match)


def _controls(interaction: Interaction) -> tuple[float, ...]:
    """Return what is known of the item; 0 where an interaction lacks it."""
    action = interaction.action
    return _CONTROL.unpack(action) if len(action) == _CONTROL.size else _NO_CONTROL


def _read(data: bytes) -> Floats:
    return np.frombuffer(data, dtype="<f8").reshape(-1, _N_FITTED + 1).astype(np.float64)
