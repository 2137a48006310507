"""Delivery guarantees of a page: the slots it reserves, and the uploads that compete for them.

Shortfalls are those of the served version, less the cards this replica has delivered since
(`policies.fair_start`). An upload without any impression comes first. Uploads that a filter or a
rate limit excludes for this user are left out. Derivation: `docs/decisions/serve-feed-pipeline.md`.
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
"""Maximum number of rounds in which rate-limited uploads are replaced by others."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The slots that one page reserves, and the candidates for them."""

    places: Ints  # slots to reserve, in random order
    debut: Ints  # catalogue indices of the candidates, the most urgent first


class Owed:
    """Computes the reservations of one replica's pages and counts its deliveries in flight."""

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
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
        """Return the slots a page reserves for uploads with a shortfall, and their candidates.

        Args:
            asked: the query of the page.
            interests: the user's interests, see `policies.matches.interests_of`.
            known: the user's history.
            eligible: items that the user may be shown.
            new: shape (n_items,), eligible items that are new to the user.
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
        """Count the cards of a committed page as deliveries in flight."""
        places = (self._catalogue.index_of(card.item_id) for card in page.cards)
        index = np.array([i for i in places if i is not None], dtype=np.int64)
        self._undelivered.drew(index, page.at_ms)

    def _owed_to(
        self, reach: Reach, pending: Ints, known: Known, eligible: Eligible, new: Bools
    ) -> Ints:
        """Return the uploads with a shortfall that this user can be offered, most urgent first."""
        owed = fair_start.owed_to(self._catalogue, reach, new, pending)
        return filters.apply(
            known, eligible, self._catalogue, owed, at_least=0, per_creator=max(len(owed), 1)
        ).kept

    def _is_unmet(self, asked: Asked, pending: Ints, owed: Ints) -> Bools:
        """Return the uploads without any impression, delivered or in flight from this replica."""
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
        """Return the uploads whose audience would accept an impression of this user."""
        audiences, ids = asked.served.audiences, self._catalogue.ids
        return np.array([audiences.hears(asked.scene, ids[i]) for i in index.tolist()], np.bool_)
