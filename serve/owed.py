"""What a page owes to uploads: the slots that are reserved, and the uploads that these choose from.

Debts are those of the version that the page is drawn with, less what this replica has given out
since (`policies.fair_start`). An upload that nobody was shown yet stands before all others, and for
it a page reserves the whole budget: a first impression cannot wait until the fold has heard of the
upload and counts its debt in the market's share.

What a filter would remove is left out before it is chosen: the most urgent upload may stand alone,
and its creator have had their turn just now.

What this person's impression would not pay, since a guard holds that too much came from where they
come from (`env.evidence`), is left out as well: else a crowd of young fakes would have real young
people shown an upload again and again, for nothing. Only what is about to be offered is asked, as
that takes some microseconds each, and few pages reserve anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from env.catalogue import Catalogue
from env.index_sets import is_among
from env.reach import Reach
from env.records import PageRecord
from env.vocabulary import Bools, Float32s, Ints
from policies import fair_start, filters, pools
from policies.eligible import Eligible
from policies.fair_start import Undelivered
from policies.known import Known
from serve.asked import Asked
from serve.config import Config

_TIMES_ASKED = 4
"""Offers that are looked at for one that hears the person; then a page does with what is left."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one page reserves, and for what."""

    places: Ints  # slots to reserve, in random order
    debut: Ints  # catalogue indices of the uploads that they choose from, the most urgent first


class Owed:
    """What the pages of one replica owe, with what is on its way to people from here."""

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        """Know of nothing on its way yet.

        Args:
            config: its sections feed and fair_start are used.
            catalogue: moved by the engine.
        """
        self._config = config
        self._catalogue = catalogue
        self._undelivered = Undelivered()

    def offer(
        self,
        asked: Asked,
        interests: Mapping[str, Float32s],
        known: Known,
        eligible: Eligible,
        new: Bools,
    ) -> Offer:
        """Return what a page reserves for uploads that are owed an audience.

        Args:
            asked: the page.
            interests: the person's, see `policies.matches.interests_of`.
            known: what the person knows.
            eligible: what may be shown to them.
            new: shape (n_items,), what of that is new to them.
        """
        reach = asked.served.audiences.aligned(self._catalogue)
        pending = self._undelivered.pending(reach, asked.scene.at_ms)
        owed = self._owed_to(reach, pending, known, eligible, new)
        unmet = owed[self._is_unmet(asked, pending, owed)]
        share = asked.served.audiences.share(asked.scene.country, asked.scene.language)
        if len(unmet):
            share, owed = max(share, self._config.fair_start.budget), unmet
        places = pools.reserve(share, asked.size, asked.seed)
        return Offer(places, self._suited(asked, interests, reach, owed, len(places)))

    def committed(self, page: PageRecord) -> None:
        """Learn that a page is given out: what it shows is on its way."""
        places = (self._catalogue.index_of(card.item_id) for card in page.cards)
        index = np.array([i for i in places if i is not None], dtype=np.int64)
        self._undelivered.drew(index, page.at_ms)

    def _owed_to(
        self, reach: Reach, pending: Ints, known: Known, eligible: Eligible, new: Bools
    ) -> Ints:
        """Return the owed uploads that a person can be offered, the most urgent first."""
        owed = fair_start.owed_to(self._catalogue, reach, new, pending)
        return filters.apply(
            known, eligible, self._catalogue, owed, at_least=0, per_creator=max(len(owed), 1)
        ).kept

    def _is_unmet(self, asked: Asked, pending: Ints, owed: Ints) -> Bools:
        """Return which of them nobody has been shown, nor is about to be by this replica."""
        impressions = asked.served.states.aligned(self._catalogue).impressions
        unmet: Bools = (impressions[owed] == 0.0) & (pending[owed] == 0)
        return unmet

    def _suited(
        self,
        asked: Asked,
        interests: Mapping[str, Float32s],
        reach: Reach,
        owed: Ints,
        n_reserved: int,
    ) -> Ints:
        """Return the owed uploads that the page's reserved slots choose from."""
        if not n_reserved:
            return owed[:0]
        n_candidates = max(self._config.feed.candidates, asked.size)
        at_most = max(n_candidates // 2, n_reserved)
        hearing = owed[:0]
        for _ in range(_TIMES_ASKED):
            suited = fair_start.offer(
                interests, self._catalogue, reach, owed, n_reserved, at_most, asked.seed
            )
            hears = self._hears(asked, suited)
            hearing = suited[hears]
            if hears.all():
                break
            owed = owed[~is_among(owed, suited[~hears])]
        return hearing

    def _hears(self, asked: Asked, index: Ints) -> Bools:
        """Return which uploads would hear this person, so that a card of them pays."""
        audiences, ids = asked.served.audiences, self._catalogue.ids
        return np.array([audiences.hears(asked.scene, ids[i]) for i in index.tolist()], np.bool_)
