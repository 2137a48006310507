"""A network that ranks as somebody else does, of whom there are the pmfs.

A policy that is served, or was found by search, is worth more than the first million cards of a
network that knows nothing. The scorer is fitted to the softmax of its scores by cross entropy,
which leaves it a pmf that training can move (behaviour cloning from a pmf and not from draws, so
there is no noise of draws in it: distillation, Hinton, Vinyals and Dean, 2015).

It needs torch and no RLlib: nothing acts here.
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
    """Return a network whose softmax is near the pmfs that are given.

    Args:
        args: the network's shape.
        scalings: of a person's columns and of a candidate's.
        users: people, shape (n, n_user).
        rows: what they were offered, shape (n, K, n_item).
        pmf: over it, shape (n, K).
        epochs: times that each is learned from.
        seed: of the weights and of the order.
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
