"""Fixture of a benchmark: a data folder with a catalogue and users, imported or generated."""

from pathlib import Path

from env.world import generated
from serve.config import Config
from serve.importers.kuairand import read
from serve.jobs.import_data import import_items, import_kuairand, import_users
from serve.store.data_folder import open_data

FIRST_SWIPE_MS = 12 * 3_600_000

N_GENERATED_ITEMS = 2_000

IMPORTED_MS = 0
"""Imports are dated before the simulated clock begins, because the join's time never runs
backwards.
"""


def fill_data_folder(
    config: Config, seed: int, kuairand: Path | None, now_ms: int, n_users: int
) -> float | None:
    """Import or generate a catalogue with its users; return the response model's AUC.

    Args:
        kuairand: a KuaiRand folder; None: generated data, and no AUC.
        n_users: users to generate.
    """
    if kuairand is not None:
        return import_kuairand(config, read(kuairand), IMPORTED_MS).response_auc
    import_items(config, generated.catalogue(seed, N_GENERATED_ITEMS, now_ms), IMPORTED_MS)
    import_users(config, generated.users(seed, n_users, now_ms), IMPORTED_MS)
    return None


def first_swipe_ms(config: Config) -> int:
    """Return the time half a day after the newest upload."""
    with open_data(config) as store, store.view() as view:
        items = view.items()
    return max(item.published_ms for item in items) + FIRST_SWIPE_MS
