"""The part of a query that the features of its candidates depend on."""

from dataclasses import dataclass
from functools import cached_property

from env.features.collaborative import NO_FACTORS, ItemFactors, Taste
from env.items.catalogue import Catalogue
from env.items.statistics import Aligned
from env.users.state import UserState
from env.vocabulary import Scene


@dataclass(frozen=True)
class FeatureQuery:
    """A user, a scene, and the items as one version of the statistics knows them."""

    user: UserState
    scene: Scene  # position 0 begins a session, however the last one was
    catalogue: Catalogue
    items: Aligned  # the version's statistics, aligned to the catalogue
    factors: ItemFactors = NO_FACTORS  # of the collaborative generation

    @cached_property
    def taste(self) -> Taste | None:
        """The user's taste among others' answers; None where nothing is known of it."""
        return self.factors.taste_of(self.user)
