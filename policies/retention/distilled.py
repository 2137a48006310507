"""This module distils searched ranking weights into a network that can be served.

Rejected alternatives: `docs/decisions/weight-search.md`; results: `docs/retention.md`.
"""

from threadpoolctl import threadpool_limits

from env.played_lives import People
from env.presets import Preset
from policies.ranker import RankerArgs
from policies.retention.args import Columns
from policies.retention.cloning import clone
from policies.retention.rankings import Network, Weights
from policies.retention.scaling import Scaling
from policies.retention.teacher import watch_teacher

HIDDEN, EMBED = 32, 16
EPOCHS = 10


def learn(
    preset: Preset,
    teacher: Weights,
    people: People,
    n_turns: int,
    seed: int,
    shown: Columns = "world",
) -> Network:
    """Return a network that learned to rank as weights do."""
    users, rows, pmf = watch_teacher(preset, teacher, people, n_turns, seed, shown)
    n_row = rows.shape[-1]
    args = RankerArgs(users.shape[1], n_row, HIDDEN, EMBED)
    is_feed = shown == "feed"
    scalings = (
        Scaling.of_columns(users, of_feed=is_feed),
        Scaling.of_columns(rows.reshape(-1, n_row), of_feed=is_feed),
    )
    with threadpool_limits(1):  # other workers have the other processors
        ranker = clone(args, scalings, users, rows, pmf, epochs=EPOCHS, seed=seed)
    return Network(ranker.to_bytes())
