"""KuaiRand's history: each user's last plays hidden, and looked for among 100 proposals.

Item factors are fitted to the plays that are left, and the source of candidates proposes to each
user as on a page, from the user's own ring of answers. Its recall is compared with that of the
most played items and of item-item counts over the same plays, each the best of its own kind:
cosines of the plays' columns, summed over the plays of a user. Data: KuaiRand-Pure (Gao et al.,
CIKM 2022, CC BY-SA 4.0), the histories of users up to 24 April 2022.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq

from env.fair_start.audience import Audiences
from env.features.collaborative import ItemFactors
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.records import ItemRecord, item_key, pack_halves
from env.users.answers import put_answer
from env.users.state import UserState, newcomer
from env.vocabulary import Floats, Ints, Item, ItemId, Keys, Profile, Scene
from policies.candidates.eligibility import Eligibility
from policies.candidates.markets import Markets
from policies.candidates.query import Inventory, Query, QuerySettings
from policies.candidates.retrieval import Collaborative
from policies.collaborative.answers import AnswerWindow
from policies.collaborative.fit import FitArgs, fit
from serve.config import Config

FILE = "history_until_24_april.parquet"
N_PROPOSED = 100
LEAST_PLAYS = 10
"""Of a user who is looked at."""

WATCHED, LONG, LIKED = 0.5, 0.5, 1.0
"""Values of a play, and beyond it of a long view and a like, as `env.users.answers` counts them."""


class HistorySize(msgspec.Struct, frozen=True):
    """How much is looked at.

    Attributes:
        hidden: last plays of each user.
        users: for whom proposals are made; the factors learn from all.
    """

    hidden: int = 5
    users: int = 4_000


class HistoryResult(msgspec.Struct, frozen=True):
    """Recall at 100 of hidden plays.

    Attributes:
        recall: of the collaborative source.
        recall_popularity: of the most played items.
        recall_item_item: of item-item counts.
        recall_ratio_popularity: the first over the second.
        recall_ratio_item_item: the first over the third.
        users: for whom proposals were made.
    """

    recall: float
    recall_popularity: float
    recall_item_item: float
    recall_ratio_popularity: float
    recall_ratio_item_item: float
    users: int


@dataclass(frozen=True, slots=True)
class Plays:
    """Plays by user, items by number; nobody's hidden plays are among the others."""

    items: list[ItemId]
    known: list[list[int]]  # of each user, oldest first
    values: list[list[float]]
    hidden: list[list[int]]


def run_history(folder: Path, size: HistorySize, *, seed: int, config: Config) -> HistoryResult:
    """Measure.

    Args:
        folder: with `FILE`.
        size: how much.
        seed: of the choice of users.
        config: of the fit.
    """
    plays = read_plays(folder / FILE, size.hidden)
    rng = np.random.default_rng(seed)
    n = min(size.users, len(plays.known))
    some = np.sort(rng.choice(len(plays.known), n, replace=False))
    keys = np.array([item_key(item_id) for item_id in plays.items], dtype=np.uint64)
    settings = config.collaborative
    window = AnswerWindow(settings.answers)
    for user, (items, values) in enumerate(zip(plays.known, plays.values, strict=True)):
        for item, value in zip(items, values, strict=True):
            window.put(user, int(keys[item]), value)
    args = FitArgs(dims=settings.dims, items=settings.items)
    source = Proposals(plays, keys, fit(window.answers(settings.per_user), args), config)
    counts = Counts(plays)
    return _result(
        n,
        recall=_recall(plays, some, [source.of(user) for user in some.tolist()]),
        popularity=_recall(plays, some, [counts.popular(user) for user in some.tolist()]),
        item_item=_recall(plays, some, [counts.alike(user) for user in some.tolist()]),
    )


def _result(n: int, *, recall: float, popularity: float, item_item: float) -> HistoryResult:
    return HistoryResult(
        recall=recall,
        recall_popularity=popularity,
        recall_item_item=item_item,
        recall_ratio_popularity=recall / popularity,
        recall_ratio_item_item=recall / item_item,
        users=n,
    )


def read_plays(path: Path, n_hidden: int) -> Plays:
    """Return the plays of users with enough of them; the last distinct ones are hidden."""
    table = pq.read_table(path).to_pydict()
    rows = zip(table["watch_seq"], table["long_watch_seq"], table["like_seq"], strict=True)
    numbers: dict[int, int] = {}
    plays = Plays([], [], [], [])
    for watched, seen_long, seen_liked in rows:
        long, liked = set(seen_long), set(seen_liked)
        if len(watched) < LEAST_PLAYS:
            continue
        hidden = set(watched[-n_hidden:])
        known = [video for video in dict.fromkeys(watched) if video not in hidden]
        if not known:
            continue
        for video in (*known, *hidden):
            numbers.setdefault(video, len(numbers))
        plays.known.append([numbers[video] for video in known])
        plays.hidden.append([numbers[video] for video in hidden])
        plays.values.append(
            [WATCHED + LONG * (video in long) + LIKED * (video in liked) for video in known]
        )
    plays.items.extend(ItemId(str(video)) for video in numbers)
    return plays


class Proposals:
    """The collaborative source over a catalogue of these items."""

    def __init__(self, plays: Plays, keys: Keys, factors: ItemFactors, config: Config) -> None:
        catalogue = Catalogue()
        for item_id in plays.items:
            item = Item(item_id)
            catalogue.apply(ItemRecord(item_id, 0, item, pack_halves(static_block(item))))
        self._plays, self._keys = plays, keys
        self._inventory = Inventory(
            catalogue,
            ItemStates().aligned(catalogue),
            Audiences(),
            Eligibility(Markets({}), config.pools),
            QuerySettings(),
            factors=factors,
            factor_index=factors.places_in(catalogue),
        )

    def of(self, user: int) -> Ints:
        """Return the proposals to a user, who has seen the known plays."""
        query = Query.of(self._inventory, self._state(user), Scene(1), 1, user)
        return Collaborative().propose(query, N_PROPOSED)

    def _state(self, user: int) -> UserState:
        ring, items = b"", self._plays.known[user]
        for item, value in zip(items, self._plays.values[user], strict=True):
            ring = put_answer(ring, int(self._keys[item]), value)
        seen = self._keys[items].astype("<u4").tobytes()
        return msgspec.structs.replace(newcomer(Profile()), answers=ring, seen=seen)


class Counts:
    """Rivals that count plays, and plays of two items by the same user."""

    def __init__(self, plays: Plays) -> None:
        self._plays, n = plays, len(plays.items)
        together = np.zeros((n, n), dtype=np.float32)
        for items in plays.known:
            together[np.ix_(items, items)] += 1.0
        self._plays_of: Floats = np.diag(together).astype(np.float64)
        np.fill_diagonal(together, 0.0)
        root = np.sqrt(np.maximum(self._plays_of, 1.0)).astype(np.float32)
        together /= root[:, None]
        together /= root[None, :]
        self._cosines = together

    def popular(self, user: int) -> Ints:
        """Return the most played items that a user does not know."""
        return self._first(user, self._plays_of)

    def alike(self, user: int) -> Ints:
        """Return the items most alike to those that a user knows."""
        return self._first(user, self._cosines[self._plays.known[user]].sum(axis=0))

    def _first(self, user: int, scores: Floats) -> Ints:
        left = np.array(scores, dtype=np.float64)
        left[self._plays.known[user]] = -np.inf
        return np.argsort(-left, kind="stable")[:N_PROPOSED]


def _recall(plays: Plays, some: Ints, proposed: list[Ints]) -> float:
    """Return the mean share of a user's hidden plays that is proposed."""
    found = [
        float(np.isin(plays.hidden[user], index).mean())
        for user, index in zip(some.tolist(), proposed, strict=True)
    ]
    return float(np.mean(found))
