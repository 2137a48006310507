"""An arm's way through a replicate of the cold start world."""

import numpy as np

from env.features import DYNAMIC, N_DYNAMIC, N_SHARED, SHARED, quantise
from env.vocabulary import Float32s
from serve.bench.coldstart_arms import Player
from serve.bench.coldstart_figures import Run, run_of
from serve.bench.coldstart_pages import Service
from serve.bench.coldstart_world import ColdWorld

LEARN_EVERY = 40
"""Rounds of a batch: an item is offered 8 times in it, of 1,200 times in its life."""

_PERSON = {
    "phone": 1.0,
    "android": 1.0,
    "wifi": 1.0,
    "evidence": float(np.log1p(300.0)) / 5.0,
    "play_rate": 0.5,
    "session_play_rate": 0.5,
}
"""Of everybody: they are well known, and alike but for their interests."""


def play(world: ColdWorld, player: Player, key: bytes) -> Run:
    """Return what a player did in a world.

    Args:
        world: is not moved.
        player: with nothing learned.
        key: of the draws; arms with the same key draw with the same numbers.
    """
    shared, match = _shared(), DYNAMIC.index("long_match")
    service = Service(player, world.catalogue, key)
    chosen = np.empty(world.n_rounds, dtype=np.int64)
    for t in range(world.n_rounds):
        if t and t % LEARN_EVERY == 0:
            service.refresh()
        dynamic = np.zeros((world.offered.shape[1], N_DYNAMIC), dtype=np.float32)
        dynamic[:, match] = world.match[t]
        chosen[t] = service.draw(str(t), world.offered[t], shared, dynamic)
        service.close([float(world.coin[t] < world.expected[t, chosen[t]])])
    rounds = np.arange(world.n_rounds)
    earned = world.expected[rounds, chosen]
    shown = np.bincount(world.offered[rounds, chosen], minlength=len(world.known))
    return run_of(
        reward=float(earned.mean()),
        regret=float((world.expected.max(axis=1) - earned).mean()),
        impressions=shown[world.ended],
        quality=world.quality[world.ended],
        even_share=world.n_rounds / (2 * world.args.pool),
    )


def _shared() -> Float32s:
    columns = np.zeros(N_SHARED)
    for name, value in _PERSON.items():
        columns[SHARED.index(name)] = value
    return quantise(columns)
