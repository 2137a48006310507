"""Queries for tests of single stages: a user, a scene and items, and little else."""

from collections.abc import Mapping

import numpy as np

from env.fair_start.audience import Audiences
from env.fair_start.reach import Reach
from env.features.collaborative import NO_FACTORS, ItemFactors
from env.features.query import FeatureQuery
from env.items.catalogue import Catalogue
from env.items.statistics import ItemStates
from env.users.state import UserState
from env.vocabulary import Bools, Ints, Scene
from policies.candidates.context import CREATOR_GAP, UserHistory
from policies.candidates.eligibility import Eligible
from policies.candidates.query import (
    MatchIndex,
    Query,
    QuerySettings,
    ReservedCandidates,
    interests_of,
)
from policies.candidates.retrieval import SOURCES

NONE = np.zeros(0, dtype=np.int64)


def feature_query(
    user: UserState, scene: Scene, catalogue: Catalogue, states: ItemStates
) -> FeatureQuery:
    """Return what the features of a page depend on."""
    return FeatureQuery(user, scene, catalogue, states.aligned(catalogue))


def only(name: str) -> dict[str, float]:
    """Return shares that leave all to one source."""
    return {source.name: float(source.name == name) for source in SOURCES}


def query_of(
    user: UserState,
    scene: Scene,
    catalogue: Catalogue,
    states: ItemStates | None = None,
    *,
    allowed: Bools | None = None,
    eligible: Eligible | None = None,
    reach: Reach | None = None,
    nearest: MatchIndex | None = None,
    shares: Mapping[str, float] | None = None,
    debut: Ints = NONE,
    places: Ints = NONE,
    size: int = 1,
    per_creator: int = 3,
    creator_gap: int = CREATOR_GAP,
    follow: float = 0.0,
    seed: int = 0,
    factors: ItemFactors = NO_FACTORS,
) -> Query:
    """Return a query; all items are eligible unless it is said which are."""
    history = UserHistory.of(user, catalogue, scene.at_ms, creator_gap)
    if eligible is None:
        allowed = np.ones(len(catalogue), dtype=np.bool_) if allowed is None else allowed
        eligible = Eligible.of(np.where(allowed, -1, 0).astype(np.int8))
    items = (states or ItemStates()).aligned(catalogue)
    query = Query(
        user,
        scene,
        catalogue,
        items,
        history=history,
        eligible=eligible,
        new=history.new(eligible.allowed),
        interests=interests_of(user, scene, catalogue, items),
        settings=QuerySettings(
            per_creator=per_creator, creator_gap=creator_gap, shares=shares or {}, follow=follow
        ),
        size=size,
        seed=seed,
        rng=np.random.default_rng(seed),
        reach=reach or Audiences().aligned(catalogue),
        nearest=nearest,
        factors=factors,
        factor_index=factors.places_in(catalogue),
    )
    return query.reserving(ReservedCandidates(places, debut))
