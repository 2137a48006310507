"""One interaction at a time: what tests compare batches with."""

import numpy as np

from env.records import unpack_halves
from env.vocabulary import Features, Floats, Interaction
from policies.bandit.main_effects import MAIN_USER_COLUMNS, N_COLUMNS, N_USER_COLUMNS


def features_of(interaction: Interaction) -> Features:
    """Return the features of the chosen action, as those of a page with one candidate."""
    return Features(
        shared=unpack_halves(interaction.shared),
        actions=unpack_halves(interaction.action)[None, :],
        keys=np.array([interaction.item_key], dtype=np.uint64),
    )


def columns_of(features: Features) -> Floats:
    """Return the columns of a page's one candidate, as VW sees it, shape (N_COLUMNS,)."""
    columns = np.ones(N_COLUMNS)
    columns[1:N_USER_COLUMNS] = features.shared[MAIN_USER_COLUMNS]
    columns[N_USER_COLUMNS:] = features.actions[0]
    return columns
