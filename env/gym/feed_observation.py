"""Observations of simulated users in the columns of an HTTP feed's request.

`user` is `env.columns.schema.SHARED`, `items` STATIC and `personal` DYNAMIC, with the feed's
scales, rates, interests and rounding, so a ranker trained on them can be served. A page is
requested at each card.

Exact, estimated and missing columns, and rejected alternatives:
`docs/decisions/gym-feed-observation.md`.
"""

import numpy as np

from env.columns import schema
from env.columns.scales import MATCH_SCALE
from env.columns.schema import (
    N_DYNAMIC,
    N_SHARED,
    N_STATIC,
    Column,
    index_of,
    quantise,
    read_user,
)
from env.features.encode import (
    NEW_MS,
    cohort_columns,
    device_columns,
    shrink_exposure,
    shrink_signal,
    user_facts,
)
from env.gym.feed_memory import FeedItems, FeedStateBatch
from env.users.interests import (
    OTHER_RATE,
    OWN_RATE,
    language_rate,
    language_share,
    read_interests,
)
from env.users.state import DAY_MS, scene_weight
from env.vocabulary import Bools, Float32s, Floats, Ints
from env.world.simulation import Simulation
from env.world.supply import EVERYWHERE

_DAY_H = 24.0
_DAYS_A_WEEK = 7


class FeedView:
    """Writes the columns of n users and their candidates."""

    def __init__(self, swiping: Simulation, memory: FeedStateBatch) -> None:
        """Allocate the columns of a simulation whose users `memory` follows."""
        self._swiping, self._memory = swiping, memory
        n, k = swiping.candidates.rows.shape
        self.user = np.zeros((n, N_SHARED), dtype=np.float32)  # (n, N_SHARED)
        self.items = np.zeros((n, k, N_STATIC), dtype=np.float32)  # (n, K, N_STATIC)
        self._planes = np.zeros((N_DYNAMIC, n, k), dtype=np.float32)
        cast = swiping.cast
        self._devices = _by_class([device_columns(device) for device in cast.devices])
        self._cohorts = _by_class([cohort_columns(cohort) for cohort in cast.cohorts])

    @property
    def personal(self) -> Float32s:
        """The candidates' columns, a view of planes, shape (n, K, N_DYNAMIC)."""
        return np.moveaxis(self._planes, 0, -1)

    def write(self) -> None:
        """Write the current columns."""
        rows = self._swiping.candidates.rows
        items = self._memory.items(self._swiping.stock)
        self._write_users()
        np.take(items.blocks, rows, axis=0, out=self.items, mode="clip")
        items.write(rows, self._planes)
        self._write_matches(items)
        self._write_meetings(rows)
        self._write_origins(rows)

    def _write_users(self) -> None:
        memory, crowd = self._memory, self._swiping.crowd
        users, day = crowd.users, np.floor(memory.now)
        tenure_days = memory.tenure + memory.now - memory.born
        facts = user_facts(
            memory,
            hour=np.floor((memory.now - day) * _DAY_H),
            weekday=day % _DAYS_A_WEEK,
            position=crowd.position,
            tenure_days=np.floor(tenure_days),
        )
        columns = np.zeros((N_SHARED, crowd.n))
        for column, value in read_user(facts).items():
            columns[index_of(column)] = value
        for classes, code in ((self._devices, users.device), (self._cohorts, users.cohort)):
            for column, of_class in classes.items():
                columns[index_of(column)] = of_class[code]
        columns[index_of(schema.KNOWN_LANGUAGE)] = users.language >= 0
        columns[index_of(schema.NEW_COHORT), tenure_days < NEW_MS / DAY_MS] = 1.0
        self.user[:] = quantise(columns).T

    def _write_matches(self, items: FeedItems) -> None:
        """Write matches of interest from the vectors that are already in `items`."""
        memory, n = self._memory, len(self.user)
        long = read_interests(memory.long_sum, memory.evidence)
        session = read_interests(memory.session_sum, memory.session_evidence)
        scene = items.played * np.asarray(scene_weight(memory.evidence), dtype=np.float32)[:, None]
        leans = np.stack([MATCH_SCALE.factor * long, MATCH_SCALE.factor * session, scene], axis=-1)
        matches = self.items[:, :, : len(items.played)] @ leans.astype(np.float32)
        begun = self._swiping.crowd.position > 0
        matches[:, :, 1] *= begun.reshape(n, 1)
        for k, column in enumerate((schema.LONG_MATCH, schema.SESSION_MATCH, schema.SCENE_MATCH)):
            self._put(column, matches[:, :, k])

    def _write_meetings(self, rows: Ints) -> None:
        """Write tallies of the candidates' creators and topics, and the follows of creators."""
        memory, stock = self._memory, self._swiping.stock
        creators, topics = stock.creator[rows], stock.topic[rows]
        exposure, signal = memory.creators.read(creators, memory.n_cards)
        self._put(schema.CREATOR_AFFINITY, shrink_signal(signal, exposure))
        self._put(schema.CREATOR_RECENT, shrink_exposure(exposure))
        exposure, signal = memory.topics.read(topics, memory.n_cards)
        self._put(schema.TAG_AFFINITY, shrink_signal(signal, exposure))
        self._put(schema.TAG_RECENT, shrink_exposure(exposure))
        self._put(schema.FOLLOWED, memory.follows.has(creators))

    def _write_origins(self, rows: Ints) -> None:
        stock, users = self._swiping.stock, self._swiping.crowd.users
        market = stock.market[rows]
        is_home = (market == users.market[:, None]) & (market != EVERYWHERE)
        self._put(schema.SAME_COUNTRY, is_home)
        self._put(schema.SAME_LANGUAGE, stock.language[rows] == users.language[:, None])
        self._write_languages(stock.language[rows].astype(np.int64), users.language[:, None])

    def _write_languages(self, languages: Ints, own: Ints) -> None:
        """Write the share of the candidates' languages, (n, K), beside the users' own, (n, 1)."""
        memory, n_cards = self._memory, self._memory.n_cards
        has_own = own >= 0
        exposure, plays = memory.languages.read(own, n_cards)
        own_rate = language_rate(plays * has_own, exposure * has_own, OWN_RATE)
        exposure, plays = memory.languages.read(languages, n_cards)
        rate = language_rate(plays, exposure, np.where(has_own, OTHER_RATE, OWN_RATE))
        is_own = (languages < 0) | (languages == own)
        rate = np.where(is_own, own_rate, rate)
        self._put(schema.LANGUAGE_SHARE, np.asarray(language_share(rate, own_rate)))

    def _put(self, column: Column, values: Floats | Float32s | Bools) -> None:
        self._planes[index_of(column)] = quantise(values)


def _by_class(classes: list[dict[Column, bool]]) -> dict[Column, Bools]:
    """Return columns of classes, each of shape (n_classes,)."""
    return {column: np.array([one[column] for one in classes]) for column in classes[0]}
