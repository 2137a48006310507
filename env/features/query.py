"""The part of a query that the features of its candidates depend on."""

from dataclasses import dataclass

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
