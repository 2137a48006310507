"""Rankers of the feed's columns for tests: with random weights, which tell candidates apart."""

import numpy as np

from env.columns.schema import N_ACTION, N_SHARED
from policies.ranker.ranker import Ranker, RankerArgs, tensor_shapes


def random_ranker(
    seed: int = 0, *, n_user: int = N_SHARED, n_item: int = N_ACTION, hidden: int = 16
) -> Ranker:
    """Return a network that was never trained."""
    rng = np.random.default_rng(seed)
    args = RankerArgs(n_user, n_item, hidden=hidden, embed=8)
    return Ranker(
        args,
        {
            name: np.ones(shape, dtype=np.float32)
            if name.endswith(".scale")
            else rng.normal(scale=0.5, size=shape).astype(np.float32)
            for name, shape in tensor_shapes(args).items()
        },
    )
