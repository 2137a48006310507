"""Cohorts of users by behaviour: clusters of lasting interests, named by the tags they play.

A cohort holds the users whose interest leans the same way from everybody's mean (spherical k-means:
Dhillon and Modha, Machine Learning 2001), and is named by the tags that its members play more than
everybody does. Numbers and names are kept from one generation to the next as long as a cohort stays
where it was. Derivation and rejected alternatives: `docs/decisions/cohorts.md`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from env.arrays.vectors import padded
from env.columns.schema import CONTENT_DIM
from env.users.interests import read_interest
from env.users.state import UserState
from env.vocabulary import Bools, Float32s, Floats, Ints
from policies.collaborative.users import LEAST_USERS, Behaviours

MAX_COHORTS = 12
LEAST_EVIDENCE = 5.0
"""Answered cards, decayed, from which a user belongs to a cohort."""

LEAST_ALIKE = 0.5
"""Cosine of the centres from which a cohort is the one of the generation before."""

LEAST_LIFT = 1.2
MAX_TAGS = 8
NAMED_TAGS = 3
"""Tags in a name at most; each tells at least `_NAMED_SHARE` of what the first one does."""

_NAMED_SHARE = 0.4
_LISTED = 3
_RESTARTS, _ROUNDS = 10, 30
_CLUSTERED = 4_096
"""Users whose interests place the centres; all others join the nearest."""


class CohortTag(msgspec.Struct, frozen=True):
    """A tag that a cohort plays more than everybody does."""

    tag: str
    share: float  # of what the cohort's members liked of late
    lift: float  # this over the same share of everybody, above 1


class Cohort(msgspec.Struct, frozen=True):
    """A cohort as it is listed.

    Attributes:
        cohort: its number, which no other cohort ever gets.
        name: the tags that tell it best; empty tags give its number.
        users: members among the users that were looked at.
        share: of the users who belong to any cohort.
        play_rate: share of valid plays in the members' answered cards.
        tags: the most telling first.
        countries: share of the members by registered country, the most common ones.
        languages: the same by language.
    """

    cohort: int
    name: str
    users: int
    share: float
    play_rate: float
    tags: tuple[CohortTag, ...]
    countries: dict[str, float]
    languages: dict[str, float]


class _Stored(msgspec.Struct, frozen=True, array_like=True, tag="cohorts/1"):
    mean: bytes  # float32
    centres: bytes  # float32, one row a cohort
    cohorts: tuple[Cohort, ...]
    n_unassigned: int
    next_number: int


@dataclass(frozen=True, slots=True, eq=False)
class Cohorts:
    """The cohorts of one generation.

    Attributes:
        mean: shape (d,), everybody's mean interest.
        centres: shape (k, d), unit directions from it.
        cohorts: one a centre, the largest first.
        n_unassigned: users of whom too little is known to belong to one.
        next_number: number of the next new cohort.
    """

    mean: Float32s
    centres: Float32s
    cohorts: tuple[Cohort, ...]
    n_unassigned: int = 0
    next_number: int = 1

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the cohorts that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no cohorts.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no cohorts: {error}") from error
        mean, centres = (
            np.frombuffer(part, dtype="<f4").astype(np.float32)
            for part in (stored.mean, stored.centres)
        )
        return cls(
            mean,
            centres.reshape(len(stored.cohorts), len(mean)),
            stored.cohorts,
            stored.n_unassigned,
            stored.next_number,
        )

    def to_bytes(self) -> bytes:
        """Return the cohorts as bytes; equal ones give equal bytes."""
        return msgspec.msgpack.encode(
            _Stored(
                self.mean.astype("<f4").tobytes(),
                self.centres.astype("<f4").tobytes(),
                self.cohorts,
                self.n_unassigned,
                self.next_number,
            )
        )

    def __len__(self) -> int:
        """Return the number of cohorts."""
        return len(self.cohorts)

    def of(self, state: UserState) -> Cohort | None:
        """Return a user's cohort, that of the nearest centre; None: too little is known."""
        interest = padded(read_interest(state.long_sum, state.evidence), CONTENT_DIM)
        if not self.cohorts or interest.shape != self.mean.shape:
            return None
        if state.evidence < LEAST_EVIDENCE:
            return None
        return self.cohorts[int(np.argmax(self.centres @ (interest - self.mean)))]


NO_COHORTS = Cohorts(np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.float32), ())
"""The cohorts before the first generation."""


def fit_cohorts(behaviours: Behaviours, before: Cohorts = NO_COHORTS) -> Cohorts:
    """Return the cohorts of users; equal inputs give equal ones.

    Args:
        behaviours: of all users who have answered.
        before: the generation before, whose numbers and names are kept where cohorts are alike.
    """
    known = np.flatnonzero(behaviours.evidence >= LEAST_EVIDENCE)
    n_unassigned = len(behaviours.evidence) - len(known)
    interests = behaviours.interests[known].astype(np.float64)
    if len(known) < 2 * LEAST_USERS:
        return Cohorts(
            before.mean[:0], before.centres[:0, :0], (), n_unassigned, before.next_number
        )
    mean = interests.mean(axis=0)
    leanings = _unit(interests - mean)
    centres = _clusters(leanings[:_CLUSTERED])
    members = np.argmax(leanings @ centres.T, axis=1)
    order = np.argsort(-np.bincount(members, minlength=len(centres)), kind="stable")
    centres, members = centres[order], np.argsort(order)[members]
    numbers, next_number = _numbers(centres, before)
    names_before = {cohort.cohort: cohort.name for cohort in before.cohorts}
    cohorts = list[Cohort]()
    for k, number in enumerate(numbers):
        tags = _tags(behaviours, known, members == k)
        taken = {cohort.name for cohort in cohorts}
        name = _name(tags, names_before.get(number, ""), taken) or f"cohort {number}"
        cohorts.append(_cohort(behaviours, known, members == k, number, name, tags))
    return Cohorts(
        mean.astype(np.float32),
        centres.astype(np.float32),
        tuple(cohorts),
        n_unassigned,
        next_number,
    )


# --- clusters ---


def _unit(rows: Floats) -> Floats:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.asarray(rows / np.maximum(lengths, 1e-12)[:, None])


def _clusters(leanings: Floats) -> Floats:
    """Return centres, shape (k, d), of the k that separates best.

    Separation is the mean silhouette, with cosine distances to centres in place of those to users
    (Vendramin, Campello and Hruschka, Statistical Analysis and Data Mining 2010).
    """
    rng = np.random.default_rng(1)
    most = min(MAX_COHORTS, len(leanings) // LEAST_USERS)
    found = [_large_enough(leanings, _best_of(leanings, k, rng)) for k in range(2, most + 1)]
    return max(found, key=lambda centres: _separation(leanings, centres))


def _best_of(leanings: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return the k centres, of several starts, to which the users are nearest."""
    starts = (_moved(leanings, _first_centres(leanings, k, rng)) for _ in range(_RESTARTS))
    return max(starts, key=lambda centres: float((leanings @ centres.T).max(axis=1).sum()))


def _first_centres(leanings: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return k users, drawn far apart (k-means++: Arthur and Vassilvitskii, SODA 2007)."""
    chosen = [int(rng.integers(len(leanings)))]
    for _ in range(1, k):
        far = np.maximum(1.0 - (leanings @ leanings[chosen].T).max(axis=1), 0.0) + 1e-12
        edges = np.cumsum(far)
        chosen.append(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")))
    return leanings[np.minimum(chosen, len(leanings) - 1)]


def _moved(leanings: Floats, centres: Floats) -> Floats:
    """Return the centres after they have moved to the means of their users until none moves."""
    members = np.full(len(leanings), -1)
    for _ in range(_ROUNDS):
        nearest = np.argmax(leanings @ centres.T, axis=1)
        if np.array_equal(nearest, members):
            break
        members = nearest
        is_in = members[None, :] == np.arange(len(centres))[:, None]
        sums = is_in.astype(np.float64) @ leanings
        centres = np.where(is_in.any(axis=1)[:, None], _unit(sums), centres)
    return centres


def _large_enough(leanings: Floats, centres: Floats) -> Floats:
    """Return the centres that have `LEAST_USERS` users, those of the smallest given up first."""
    while True:
        members = np.argmax(leanings @ centres.T, axis=1)
        counts = np.bincount(members, minlength=len(centres))
        if counts.min() >= LEAST_USERS or len(centres) == 1:
            return centres
        centres = np.delete(centres, int(np.argmin(counts)), axis=0)


def _separation(leanings: Floats, centres: Floats) -> float:
    if len(centres) < 2:
        return -1.0
    nearest = np.partition(np.maximum(1.0 - leanings @ centres.T, 0.0), 1, axis=1)
    own, other = nearest[:, 0], nearest[:, 1]
    return float(np.mean((other - own) / np.maximum(np.maximum(other, own), 1e-12)))


def _numbers(centres: Floats, before: Cohorts) -> tuple[list[int], int]:
    """Return each cohort's number, and the next new one: the most alike pairs keep theirs."""
    alike = np.zeros((len(centres), 0))
    if before.centres.shape[1] == centres.shape[1]:
        alike = centres @ before.centres.T.astype(np.float64)
    numbers = [0] * len(centres)
    for flat in np.argsort(-alike, axis=None, kind="stable").tolist():
        new, old = divmod(flat, alike.shape[1])
        number = before.cohorts[old].cohort
        if alike[new, old] >= LEAST_ALIKE and not numbers[new] and number not in numbers:
            numbers[new] = number
    following = before.next_number
    for k, number in enumerate(numbers):
        if not number:
            numbers[k], following = following, following + 1
    return numbers, following


# --- listing ---


def _cohort(
    behaviours: Behaviours,
    known: Ints,
    is_member: Bools,
    number: int,
    name: str,
    tags: tuple[CohortTag, ...],
) -> Cohort:
    members = known[is_member]
    evidence = float(behaviours.evidence[members].sum())
    return Cohort(
        cohort=number,
        name=name,
        users=len(members),
        share=len(members) / len(known),
        play_rate=float(behaviours.plays[members].sum()) / evidence,
        tags=tags,
        countries=_common(behaviours.countries[k] for k in members.tolist()),
        languages=_common(behaviours.languages[k] for k in members.tolist()),
    )


def _tags(behaviours: Behaviours, known: Ints, is_member: Bools) -> tuple[CohortTag, ...]:
    """Return the tags that tell a cohort, by their part of its divergence from everybody.

    With a tag's mean share p in the cohort and q in everybody, that part is p ln(p / q).
    """
    n, n_tags = len(behaviours.evidence), len(behaviours.tag_names)
    is_known, is_in = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    is_known[known], is_in[known[is_member]] = True, True
    everybody, cohort = (
        _mean_shares(behaviours, among[behaviours.tag_users], n_tags) for among in (is_known, is_in)
    )
    holders = np.bincount(behaviours.tags[is_in[behaviours.tag_users]], minlength=n_tags)
    lift = cohort / np.maximum(everybody, 1e-12)
    tells = np.flatnonzero((lift >= LEAST_LIFT) & (holders >= LEAST_USERS))
    score = cohort[tells] * np.log(lift[tells])
    order = tells[np.argsort(-score, kind="stable")][:MAX_TAGS]
    return tuple(
        CohortTag(behaviours.tag_names[t], float(cohort[t]), float(lift[t])) for t in order.tolist()
    )


def _mean_shares(behaviours: Behaviours, among: Bools, n_tags: int) -> Floats:
    """Return each tag's share of what these users liked, each user weighing the same."""
    summed = np.bincount(behaviours.tags[among], behaviours.tag_shares[among], minlength=n_tags)
    return np.asarray(summed / max(float(summed.sum()), 1e-12))


def _name(tags: Sequence[CohortTag], before: str, taken: set[str]) -> str:
    """Return a name that no other cohort has, the one before if it still holds.

    It is empty where no tags tell the cohort from all others.
    """
    listed = {tag.tag for tag in tags}
    if before and before not in taken and set(before.split(_AND)) <= listed:
        return before
    used = {frozenset(name.split(_AND)) for name in taken}
    # A tag such as "cars/tips" adds nothing to a name with "cars".
    telling = [tag for tag in tags if tag.tag.rpartition("/")[0] not in listed]
    words = [tag.tag for tag in telling]
    told = [tag.share * np.log(tag.lift) for tag in telling]
    n = sum(each >= _NAMED_SHARE * told[0] for each in told[:NAMED_TAGS])
    while n < len(words) and frozenset(words[:n]) in used:
        n += 1
    return "" if frozenset(words[:n]) in used else _AND.join(words[:n])


_AND = ", "


def _common(words: Iterable[str]) -> dict[str, float]:
    """Return the most common words with their shares; empty ones only count in the whole."""
    counts = Counter(words)
    total = counts.total()
    ordered = sorted(((-n, word) for word, n in counts.items() if word and n >= LEAST_USERS))
    return {word: -n / total for n, word in ordered[:_LISTED]}
