"""Small served worlds for tests of the benches."""

import msgspec
from small_worlds import PRESET

from env.fair_start.settings import FairStart
from serve.config import Config
from tests.studies.served_world.world import ServedWorld, Witness, WorldSize

SIZE = WorldSize(
    users=60, shard=20, page=5, pages_a_visit=2, cards_a_day=4_000, items=600, uploads_a_day=40.0
)
CONFIG = Config(fair_start=FairStart(impressions=8))


def make(seed: int = 1, witness: Witness | None = None, **sizes: float) -> ServedWorld:
    """Return a small world in which uploads are owed 8 impressions.

    Args:
        seed: of the world.
        witness: of its pages.
        sizes: of `WorldSize`, where they differ from `SIZE`.
    """
    size = msgspec.structs.replace(SIZE, **sizes)
    return ServedWorld(size, preset=PRESET, seed=seed, config=CONFIG, witness=witness)
