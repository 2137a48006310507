"""Writes imported items and people through the ledger, and fits the swarm's world to impressions.

An import is one transaction: all of it is in the log or nothing. What says nothing new appends
nothing, so a second import changes nothing.

Imported impressions have no propensities, so they are no lines of the log: what they are good
for, how people answer, is fitted here and kept for the swarm. The model is fitted without the
last day, on which it is judged.

Rejected: impressions as log lines with a made-up propensity (every estimate would be wrong), and
fitting when a swarm starts (seconds, every time).
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from env import generated, responses
from env.content import TitleEncoder, load_titles, static_block
from env.fitting import fit, holdout_auc
from env.records import pack_halves
from env.responses import ResponseModel
from env.vocabulary import Item, Profile, UserId
from env.world import World, make_world
from replay.log import SqliteLog
from serve.config import Config
from serve.data_folder import open_data
from serve.imported import About, ImportedWorld, People, digest_of
from serve.importers import kuairand
from serve.importers.bad_file import BadFile
from serve.importers.kuairand import KuaiRand
from serve.ledger import Ledger
from serve.refused import Refused
from serve.state import State

Advance = Callable[[int], None]
"""Told how many items or people were done since it was last told."""

N_GENERATED_PEOPLE = 2_000


class Counts(msgspec.Struct, frozen=True):
    """What an import meant for the things of one kind."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0

    @property
    def total(self) -> int:
        """Return how many things the import held."""
        return self.new + self.changed + self.unchanged

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.new + other.new, self.changed + other.changed, self.unchanged + other.unchanged
        )

    def __str__(self) -> str:
        """Say what was new.

        >>> str(Counts(new=1_200, unchanged=3))
        'new 1,200, unchanged 3'
        """
        changed = f"changed {self.changed:,}, " if self.changed else ""
        return f"new {self.new:,}, {changed}unchanged {self.unchanged:,}"


class Imported(msgspec.Struct, frozen=True):
    """What an import of items, people and impressions did.

    Attributes:
        response_auc: of valid plays on the last day, by the model fitted to the days before.
    """

    items: Counts
    users: Counts
    impressions: Counts
    response_auc: float

    def __str__(self) -> str:
        return (
            f"{self.items.total:,} items, {self.users.total:,} users, "
            f"{self.impressions.total:,} impressions "
            f"({self.items + self.users + self.impressions})"
        )


def import_items(
    config: Config, items: Sequence[Item], now_ms: int, advance: Advance | None = None
) -> Counts:
    """Put items, all or none; return what was new once it is on disk.

    Args:
        config: names the data folder.
        items: each id once.
        now_ms: Unix milliseconds; the upload time of items that have none.
        advance: told of progress, on another thread.
    """
    return _write(config, items, [], now_ms, advance or _tell_nobody)[0]


def import_users(
    config: Config,
    users: Iterable[tuple[UserId, Profile]],
    now_ms: int,
    advance: Advance | None = None,
) -> Counts:
    """Put people, all or none; return what was new once it is on disk."""
    return _write(config, [], list(users), now_ms, advance or _tell_nobody)[1]


def import_kuairand(
    config: Config, folder: Path, now_ms: int, advance: Advance | None = None
) -> Imported:
    """Import a KuaiRand folder: items, people, and the world fitted to its impressions.

    Args:
        config: names the data folder.
        folder: as KuaiRand publishes it.
        now_ms: Unix milliseconds.
        advance: told of progress, on another thread.

    Raises:
        BadFile: a file is not what it should be, or no world can be fitted to its impressions;
            nothing was imported.
    """
    data = kuairand.read(folder)
    imported, n = ImportedWorld(Path(config.data.folder)), len(data.impressions)
    digest = digest_of(data.impressions, data.items, data.users)
    about = imported.about()
    if about is not None and about.digest == digest:
        items, users = _write(config, data.items, data.users, now_ms, advance or _tell_nobody)
        return Imported(items, users, Counts(unchanged=n), about.response_auc)
    model, response_auc = _fit(data, folder)
    items, users = _write(config, data.items, data.users, now_ms, advance or _tell_nobody)
    about = About(digest, n, response_auc)
    imported.keep(about, model, data.impressions, data.items, data.users)
    return Imported(items, users, Counts(new=n), response_auc)


def load_world(config: Config, seed: int) -> tuple[World, People]:
    """Return the simulated world of the data folder's items, and the people who live in it.

    Fitted to the imported impressions, and with the imported people, where there are any; else
    the generated one.

    Args:
        config: names the data folder; its items are those of the world.
        seed: the same seed and items make the same world.
    """
    with open_data(config) as database, database.reader() as connection:
        items = State(database).items(connection)
    imported = ImportedWorld(Path(config.data.folder))
    about = imported.about()
    if about is not None:
        model, people = imported.load(about)
        return make_world(model, items, seed), people
    newest_ms = max((item.published_ms for item in items), default=0)
    people = generated.people(seed, N_GENERATED_PEOPLE, newest_ms)
    return make_world(responses.generated(), items, seed), people


def _fit(data: KuaiRand, folder: Path) -> tuple[ResponseModel, float]:
    """Return the model of the days before the last, and its AUC on that day."""
    before = data.impressions.before(kuairand.LAST_DAY_MS)
    last_day = data.impressions.since(kuairand.LAST_DAY_MS)
    try:
        model = fit(before, data.items, data.users)
        return model, holdout_auc(model, last_day, data.items, data.users)
    except ValueError as error:
        raise BadFile(folder, f"no world can be fitted to its impressions: {error}") from error


def _write(
    config: Config, items: Sequence[Item], users: People, now_ms: int, advance: Advance
) -> tuple[Counts, Counts]:
    """Put items and people in one transaction."""
    titles = _load_titles(config)
    blocks = [pack_halves(static_block(item, titles)) for item in items]
    with open_data(config, must_exist=False) as database:
        SqliteLog(database, now_ms=lambda: now_ms)  # makes the log's table where it is missing
        state = State(database)
        ledger = Ledger(state, now_ms=lambda: now_ms)

        def work(connection: sqlite3.Connection) -> tuple[Counts, Counts]:
            put = ledger.put_items(connection, items, blocks, now_ms)
            advance(len(items))
            people = [
                _put_user(connection, state, ledger, user_id, profile, now_ms, advance)
                for user_id, profile in users
            ]
            return Counts(put.added, put.changed, put.unchanged), sum(people, Counts())

        return database.write(work, durable=True).result()


def _load_titles(config: Config) -> TitleEncoder | None:
    try:
        return load_titles() if config.content.titles else None
    except ModuleNotFoundError as error:
        raise Refused(
            f"content.titles needs the extra `titles` ({error}): pip install 'nextswipe[titles]'"
        ) from error


def _put_user(
    connection: sqlite3.Connection,
    state: State,
    ledger: Ledger,
    user_id: UserId,
    profile: Profile,
    now_ms: int,
    advance: Advance,
) -> Counts:
    before = state.person(connection, user_id)
    after = ledger.put_user(connection, user_id, profile, now_ms)
    advance(1)
    if before is None:
        return Counts(new=1)
    same = before.state.profile == after.state.profile
    return Counts(unchanged=1) if same else Counts(changed=1)


def _tell_nobody(n: int) -> None:
    """Nobody watches."""
