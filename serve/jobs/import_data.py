"""Imports: write items and users in one transaction, and fit the simulated world to impressions.

An import is all or nothing and may run beside a server; unchanged records append nothing, so a
second import changes nothing. Imported impressions have no propensities and are not logged: a
response model is fitted to them for the swarm. Reasons and rejected designs:
`docs/decisions/jobs-importing.md`.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from env.calibration.fitting import fit, holdout_auc
from env.vocabulary import Item, Profile, UserId, UserKey
from env.world import generated, responses
from env.world.impressions import WatchTail
from env.world.presets import Preset
from env.world.responses import ResponseModel
from env.world.world import World, make_world, model_of
from serve.config import Config
from serve.errors import BadFile
from serve.importers import kuairand
from serve.importers.items import ItemLine
from serve.importers.kuairand import KuaiRand
from serve.jobs.embed_items import EmbeddedItems, embed_items
from serve.jobs.imported_world import ImportDescription, ImportedWorld, People, digest_of
from serve.store.data_folder import open_data, require_imports
from serve.store.ledger import WritePath, put_items, put_projection
from serve.store.store import Transaction, write_now
from serve.store.totals import OtherLengthError

Advance = Callable[[int], None]
"""Called with the number of items or users processed since the last call."""

Finish = Callable[[Transaction, Sequence[UserKey]], None]
"""Called at the end of the transaction with the users' pseudonyms."""

N_GENERATED_PEOPLE = 2_000


class ImportCounts(msgspec.Struct, frozen=True):
    """Number of new, changed and unchanged records of one kind."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0

    @property
    def total(self) -> int:
        """Number of records in the import."""
        return self.new + self.changed + self.unchanged

    def __add__(self, other: "ImportCounts") -> "ImportCounts":
        return ImportCounts(
            self.new + other.new, self.changed + other.changed, self.unchanged + other.unchanged
        )

    def __str__(self) -> str:
        """Describe the counts.

        >>> str(ImportCounts(new=1_200, unchanged=3))
        'new 1,200, unchanged 3'
        """
        changed = f"changed {self.changed:,}, " if self.changed else ""
        return f"new {self.new:,}, {changed}unchanged {self.unchanged:,}"


class Imported(msgspec.Struct, frozen=True):
    """Result of an import of items, users and impressions.

    Attributes:
        response_auc: AUC of valid plays on the last day, by the model fitted to earlier days.
        tail: tail of the watch times.
    """

    items: ImportCounts
    users: ImportCounts
    impressions: ImportCounts
    response_auc: float
    tail: WatchTail

    def __str__(self) -> str:
        return (
            f"{self.items.total:,} items, {self.users.total:,} users, "
            f"{self.impressions.total:,} impressions "
            f"({self.items + self.users + self.impressions})"
        )


def import_items(
    config: Config,
    items: Sequence[Item] | EmbeddedItems,
    now_ms: int,
    advance: Advance | None = None,
) -> ImportCounts:
    """Import items, all or none; return the counts once they are on disk.

    Args:
        items: each id once; they are embedded first, unless they are already.
        now_ms: Unix milliseconds; upload time of items without one.
        advance: progress callback, on another thread.

    Raises:
        OtherLengthError: a vector's length differs from the catalogue's.
    """
    return _write(config, items, [], now_ms, advance or _tell_nobody)[0]


def import_lines(
    config: Config,
    file: Path,
    lines: Sequence[ItemLine],
    now_ms: int,
    advance: Advance | None = None,
    embedded: EmbeddedItems | None = None,
) -> ImportCounts:
    """Import the items of a file, as `import_items` does.

    Args:
        file: for messages.
        lines: its items.
        now_ms: as of `import_items`.
        advance: progress callback, on another thread.
        embedded: the same items from `embed_items`; None: they are embedded first.

    Raises:
        BadFile: a vector's length differs from the catalogue's; nothing was imported.
    """
    try:
        items = embedded or [line.item for line in lines]
        return import_items(config, items, now_ms, advance)
    except OtherLengthError as error:
        raise BadFile(file, str(error), lines[error.place].number, "vector") from error


def import_users(
    config: Config,
    users: Iterable[tuple[UserId, Profile]],
    now_ms: int,
    advance: Advance | None = None,
) -> ImportCounts:
    """Import users, all or none; return the counts once they are on disk."""
    return _write(config, [], list(users), now_ms, advance or _tell_nobody)[1]


def import_kuairand(
    config: Config, data: KuaiRand, now_ms: int, advance: Advance | None = None
) -> Imported:
    """Import a KuaiRand folder: items, users, and the world fitted to its impressions.

    Args:
        data: from `serve.importers.kuairand.read`.
        advance: progress callback, on another thread; the total is all items and users.

    Raises:
        BadFile: no world can be fitted to the impressions; nothing was imported.
    """
    imported, n = ImportedWorld(Path(config.data.folder)), len(data.impressions)
    digest = digest_of(data.impressions, data.items, data.users)
    kept = _kept(config, imported, digest)
    stage = _staging(imported, data, digest) if kept is None else lambda: kept
    with imported.alone():
        about = stage()

        def finish(transaction: Transaction, users: Sequence[UserKey]) -> None:
            imported.make_current(transaction, about, users)

        tell = advance or _tell_nobody
        items, users = _write(config, data.items, data.users, now_ms, tell, finish)
        imported.prune(about)
    impressions = ImportCounts(new=n) if kept is None else ImportCounts(unchanged=n)
    tail = data.impressions.watch_tail()
    return Imported(items, users, impressions, about.response_auc, tail)


def load_world(config: Config, seed: int, preset: Preset | None = None) -> tuple[World, People]:
    """Return the simulated world of the data folder's items, and its users.

    The world is fitted to the imported impressions and has the imported users, if there are any;
    otherwise it is generated.

    Args:
        config: names the data folder, which holds the items.
        seed: equal seeds and items give equal worlds.
        preset: how users change, leave and return, and in a generated world who they are and how
            they respond; None: the defaults.
    """
    imported = ImportedWorld(Path(config.data.folder))
    with open_data(config) as store, store.view() as view:
        items = view.items()
        about = imported.about(view)
        kept = None if about is None else imported.load(view, about)
    moods, population = (preset.moods, preset.population) if preset else (None, None)
    if kept is not None:
        model, users = kept
        return make_world(model, items, seed, moods, population), users
    newest_ms = max((item.published_ms for item in items), default=0)
    model = model_of(preset) if preset else responses.generated()
    cohorts = preset.population.shares() if preset else generated.COHORTS
    users = generated.users(seed, N_GENERATED_PEOPLE, newest_ms, cohorts)
    return make_world(model, items, seed, moods, population), users


def _kept(config: Config, imported: ImportedWorld, digest: str) -> ImportDescription | None:
    """Return the kept import of equal data, if any."""
    if not (Path(config.data.folder) / "nextswipe.db").is_file():
        return None
    with open_data(config) as store, store.view() as view:
        about = imported.about(view)
    return about if about is not None and about.digest == digest else None


def _staging(
    imported: ImportedWorld, data: KuaiRand, digest: str
) -> Callable[[], ImportDescription]:
    """Fit the world before changing the data folder; return a function that stages it."""
    model, response_auc = _fit(data)
    return lambda: imported.stage(
        digest, model, response_auc, data.impressions, data.items, data.users
    )


def _fit(data: KuaiRand) -> tuple[ResponseModel, float]:
    """Return the model of the days before the last, and its AUC on the last day."""
    before = data.impressions.before(kuairand.LAST_DAY_MS)
    last_day = data.impressions.since(kuairand.LAST_DAY_MS)
    try:
        model = fit(before, data.items, data.users)
        return model, holdout_auc(model, last_day, data.items, data.users)
    except ValueError as error:
        problem = f"no world can be fitted to its impressions: {error}"
        raise BadFile(data.folder, problem) from error


def _write(
    config: Config,
    items: Sequence[Item] | EmbeddedItems,
    users: People,
    now_ms: int,
    advance: Advance,
    finish: Finish | None = None,
) -> tuple[ImportCounts, ImportCounts]:
    """Write items and users in one transaction, then call `finish` in it."""
    if users:
        require_imports(config)
    ready = items if isinstance(items, EmbeddedItems) else embed_items(config, items, now_ms)
    with open_data(config, must_exist=False, now_ms=lambda: now_ms) as store:
        ledger = WritePath(store)

        def work(transaction: Transaction) -> tuple[ImportCounts, ImportCounts]:
            for record in ready.learned:
                put_projection(transaction, record)
            put = put_items(
                transaction,
                ready.items,
                ready.blocks,
                now_ms,
                are_new=False,
                projections=ready.projections,
            )
            advance(len(ready.items))
            keys, counts = [], ImportCounts()
            for user_id, profile in users:
                user, count = _put_user(transaction, ledger, user_id, profile, now_ms)
                keys.append(user)
                counts += count
                advance(1)
            if finish is not None:
                finish(transaction, keys)
            return ImportCounts(put.added, put.changed, put.unchanged), counts

        return write_now(store, work)


def _put_user(
    transaction: Transaction,
    ledger: WritePath,
    user_id: UserId,
    profile: Profile,
    now_ms: int,
) -> tuple[UserKey, ImportCounts]:
    before = transaction.user(user_id)
    after = ledger.put_user(transaction, user_id, profile, now_ms)
    if before is None:
        return after.user, ImportCounts(new=1)
    same = before.state.profile == after.state.profile
    return after.user, ImportCounts(unchanged=1) if same else ImportCounts(changed=1)


def _tell_nobody(n: int) -> None:
    """Ignore progress."""
