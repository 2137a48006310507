"""A user's interest vectors, and the match of items with them.

See `docs/decisions/candidate-retrieval.md`.
"""

import numpy as np

from env.items.catalogue import Catalogue
from env.items.statistics import Aligned
from env.users import state as users
from env.users.state import UserState
from env.vocabulary import Float32s, Floats, Scene

MATCH_STEP = 2.0**-12
"""Matches, or expected rewards from them, that differ by less count as equal."""

EXPECTED = "long_interest"
"""The source to whose match an item's mean reward is added, both in rewards. For a new user it says
little, so generally good items lead. The session's match is used alone."""


def interests_of(
    user: UserState, scene: Scene, catalogue: Catalogue, items: Aligned
) -> dict[str, Float32s]:
    """Return a user's interest vectors by source; a session without cards has none.

    Args:
        scene: its popular content is the prior interest of a new user.

    Returns:
        Vectors of shape (VECTOR_DIM,), none of them zero.
    """
    prior = items.popularity.interest(scene, catalogue.vectors)
    long = users.long_interest(user, with_declared=catalogue.is_of_tags, prior=prior)
    found = {"long_interest": long}
    if scene.position > 0:
        found["session_interest"] = users.session_interest(user)
    return {source: interest for source, interest in found.items() if interest.any()}


def matches_of(source: str, interest: Float32s, vectors: Float32s, reward_mean: Floats) -> Float32s:
    """Return each item's match with an interest, shape (n,).

    Args:
        interest: shape (VECTOR_DIM,).
        vectors: of the items, shape (n, VECTOR_DIM).
        reward_mean: of the items, shape (n,).
    """
    matches = vectors @ interest
    if source == EXPECTED:
        matches += reward_mean.astype(np.float32)
    return matches
