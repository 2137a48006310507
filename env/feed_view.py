"""A vector of simulated people as the HTTP feed's policies see people: the columns of a request.

`user` is `env.features.SHARED`, `items` STATIC and `personal` DYNAMIC, with the feed's own scales
(`env.scales`), rates (`env.users`), interests (`env.interests`) and rounding, so a ranker that was
trained on them can be served. A page is asked for at each card.

Known exactly: hour and weekday, device, cohort, position, all that is counted of a person, what
they had of creators and topics (as tags), whom they follow, duration, vector and age of an item,
the same language. From counts of the stock instead of a log: popularity, the item's reward and
evidence, what everybody plays. A guess: bait, as `env.supply` has it. The simulation has no such
thing, and a column the value of what is unknown: `android`, `ios`, `wifi`, `cellular`, apps and
referrers (0), `sound_recent` (0), `popularity_here` (that of everywhere), `same_country` of what
is shown everywhere (0).

Rejected: a world of `Pipeline` and `UserState` under each environment (a thousand times slower).
"""

import numpy as np

from env.features import (
    DYNAMIC,
    N_DYNAMIC,
    N_SHARED,
    N_STATIC,
    NEW_MS,
    SHARED,
    cohort_columns,
    device_columns,
    person_facts,
    quantise,
)
from env.feed_items import FeedItems
from env.feed_memory import FeedMemory
from env.interests import read_interests
from env.person_columns import MATCH_SCALE, shrink_exposure, shrink_signal
from env.scales import scale_person
from env.supply import EVERYWHERE
from env.swiping import Swiping
from env.users import DAY_MS, scene_weight
from env.vocabulary import Bools, Float32s, Floats, Ints

_DAY_H = 24.0
_DAYS_A_WEEK = 7
_PLACE = {name: place for place, name in enumerate(DYNAMIC)}


class FeedView:
    """Writes the columns of n people and their candidates.

    Attributes:
        user: shape (n, N_SHARED).
        items: shape (n, K, N_STATIC).
    """

    def __init__(self, swiping: Swiping, memory: FeedMemory) -> None:
        """Make room.

        Args:
            swiping: what is observed.
            memory: of the people in it, which follows what they do.
        """
        self._swiping, self._memory = swiping, memory
        n, k = swiping.candidates.rows.shape
        self.user = np.zeros((n, N_SHARED), dtype=np.float32)
        self.items = np.zeros((n, k, N_STATIC), dtype=np.float32)
        self._planes = np.zeros((N_DYNAMIC, n, k), dtype=np.float32)
        cast = swiping.cast
        self._devices = _by_class([device_columns(device) for device in cast.devices])
        self._cohorts = _by_class([cohort_columns(cohort) for cohort in cast.cohorts])

    @property
    def personal(self) -> Float32s:
        """The candidates' columns, a view of planes, shape (n, K, N_DYNAMIC).

        Made anew each time: one that is kept would be a copy of its own after pickling.
        """
        return np.moveaxis(self._planes, 0, -1)

    def write(self) -> None:
        """Write what is known now."""
        rows = self._swiping.candidates.rows
        items = self._memory.items(self._swiping.stock)
        self._write_people()
        np.take(items.blocks, rows, axis=0, out=self.items, mode="clip")
        items.write(rows, self._planes)
        self._write_matches(items)
        self._write_meetings(rows)
        self._write_origins(rows)

    def _write_people(self) -> None:
        memory, crowd = self._memory, self._swiping.crowd
        people, day = crowd.people, np.floor(memory.now)
        tenure_days = memory.tenure + memory.now - memory.born
        facts = person_facts(
            memory,
            hour=np.floor((memory.now - day) * _DAY_H),
            weekday=day % _DAYS_A_WEEK,
            position=crowd.position,
            tenure_days=np.floor(tenure_days),
        )
        columns = np.zeros((N_SHARED, crowd.n))
        for name, value in scale_person(facts).items():
            columns[SHARED.index(name)] = value
        for classes, code in ((self._devices, people.device), (self._cohorts, people.cohort)):
            for name, of_class in classes.items():
                columns[SHARED.index(name)] = of_class[code]
        columns[SHARED.index("known_language")] = people.language >= 0
        columns[SHARED.index("new_cohort"), tenure_days < NEW_MS / DAY_MS] = 1.0
        self.user[:] = quantise(columns).T

    def _write_matches(self, items: FeedItems) -> None:
        """Write matches of interest, of vectors that stand in `items` already."""
        memory, n = self._memory, len(self.user)
        long = read_interests(memory.long_sum, memory.evidence)
        session = read_interests(memory.session_sum, memory.session_evidence)
        scene = items.played * np.asarray(scene_weight(memory.evidence), dtype=np.float32)[:, None]
        leans = np.stack([MATCH_SCALE * long, MATCH_SCALE * session, scene], axis=-1)
        matches = self.items[:, :, : len(items.played)] @ leans.astype(np.float32)
        begun = self._swiping.crowd.position > 0
        matches[:, :, 1] *= begun.reshape(n, 1)
        for k, name in enumerate(("long_match", "session_match", "scene_match")):
            self._put(name, matches[:, :, k])

    def _write_meetings(self, rows: Ints) -> None:
        """Write what was had of the candidates' creators and topics, and who is followed."""
        memory, stock = self._memory, self._swiping.stock
        creators, topics = stock.creator[rows], stock.topic[rows]
        exposure, signal = memory.creators.read(creators, memory.n_cards)
        self._put("creator_affinity", shrink_signal(signal, exposure))
        self._put("creator_recent", shrink_exposure(exposure))
        exposure, signal = memory.topics.read(topics, memory.n_cards)
        self._put("tag_affinity", shrink_signal(signal, exposure))
        self._put("tag_recent", shrink_exposure(exposure))
        self._put("followed", memory.follows.has(creators))

    def _write_origins(self, rows: Ints) -> None:
        stock, people = self._swiping.stock, self._swiping.crowd.people
        market = stock.market[rows]
        is_home = (market == people.market[:, None]) & (market != EVERYWHERE)
        self._put("same_country", is_home)
        self._put("same_language", stock.language[rows] == people.language[:, None])

    def _put(self, name: str, values: Floats | Float32s | Bools) -> None:
        self._planes[_PLACE[name]] = quantise(values)


def _by_class(classes: list[dict[str, bool]]) -> dict[str, Bools]:
    """Return columns of classes by name, each of shape (n_classes,)."""
    return {name: np.array([columns[name] for columns in classes]) for name in classes[0]}
