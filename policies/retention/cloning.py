"""Behaviour cloning fits a network to the pmfs of another policy.

The scorer is fitted by cross entropy to pmfs rather than to draws, so the draws add no noise
(distillation: Hinton, Vinyals and Dean, 2015). It needs torch and no RLlib. Why a clone is the
start: `docs/decisions/weight-search.md`.
"""

import numpy as np
import torch
from torch.nn import functional

from env.vocabulary import Float32s
from policies.ranker import Ranker, RankerArgs
from policies.retention.networks import Scorer, to_ranker
from policies.retention.scaling import Scaling

MINIBATCH = 256
LR = 3e-3


def clone(
    args: RankerArgs,
    scalings: tuple[Scaling, Scaling],
    users: Float32s,
    rows: Float32s,
    pmf: Float32s,
    *,
    epochs: int,
    seed: int,
) -> Ranker:
    """Return a network whose softmax is close to the given pmfs.

    Args:
        users: users' columns, shape (n, n_user).
        rows: their candidates, shape (n, K, n_item).
        pmf: over the candidates, shape (n, K).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = Scorer(args, *scalings)
    n_steps = epochs * -(-len(users) // MINIBATCH)
    optimizer = torch.optim.Adam(list(scorer.parameters()), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, n_steps)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(users))
        for first in range(0, len(order), MINIBATCH):
            at = order[first : first + MINIBATCH]
            logits = scorer(torch.from_numpy(users[at]), torch.from_numpy(rows[at]))
            loss = functional.cross_entropy(logits, torch.from_numpy(pmf[at]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return to_ranker(scorer, args)
