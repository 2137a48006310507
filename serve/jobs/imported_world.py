"""Storage of an imported world: the model fitted to impressions, its users, and its accuracy.

Files identify users by index only; a row of the store maps indices to pseudonyms and names the
current folder. That row is written in the transaction of the imported items and users, so they and
their world appear together, and a deleted user is named nowhere. Reasons:
`docs/decisions/jobs-importing.md`.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from env.calibration.impressions import ImpressionTable
from env.vocabulary import Item, Profile, UserId, UserKey
from env.world.responses import ResponseModel
from replay.log.sqlite.checkpoint import locked
from serve.store.store import Transaction, View

MODEL, IMPRESSIONS = "model", "impressions.npz"

LOCK = "nextswipe.db-import"

People = list[tuple[UserId, Profile]]


class ImportDescription(msgspec.Struct, frozen=True):
    """Description of the current import.

    Attributes:
        digest: digest of the imported data; equal imports share it.
        response_auc: AUC of valid plays on the last day, by the model fitted to earlier days.
    """

    folder: str
    digest: str
    n_impressions: int
    response_auc: float


class ImportedWorld:
    """The imports of one data folder, possibly none."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._home = data / "imports"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclude other imports and backups, by a lock."""
        self._data.mkdir(parents=True, exist_ok=True)
        with locked(self._data / LOCK, wait=True):
            yield

    def about(self, view: View) -> ImportDescription | None:
        """Return the current import; None: there is none, or its folder was removed."""
        row = view.imported_world()
        about = None if row is None else msgspec.json.decode(row[0], type=ImportDescription)
        return about if about is not None and (self._home / about.folder).is_dir() else None

    def load(self, view: View, about: ImportDescription) -> tuple[ResponseModel, People]:
        """Return the fitted model and the imported users that are still registered.

        Profiles are the present ones. A deleted user has the empty id in the model.
        """
        kept = view.imported_world()
        if kept is None:
            raise ValueError(f"expected the import {about.folder}, got none")
        registered = view.users()
        keys = msgspec.msgpack.decode(kept[1], type=list[UserKey])
        model = ResponseModel.from_bytes((self._home / about.folder / MODEL).read_bytes())
        names = [registered[user][0] if user in registered else UserId("") for user in keys]
        named = tuple(names[int(place)] for place in model.users.ids)
        users = msgspec.structs.replace(model.users, ids=named)
        model = msgspec.structs.replace(model, users=users)
        return model, [registered[user] for user in keys if user in registered]

    def stage(
        self,
        digest: str,
        model: ResponseModel,
        response_auc: float,
        impressions: ImpressionTable,
        items: Sequence[Item],
        users: People,
    ) -> ImportDescription:
        """Write a world to disk without making it current; call it inside `alone`.

        `make_current` makes it current, and `prune` ends the work under the lock.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        folder = uuid.uuid4().hex
        aside = self._home / folder
        aside.mkdir()
        (aside / MODEL).write_bytes(_numbered(model, users).to_bytes())
        np.savez_compressed(
            aside / IMPRESSIONS,
            item_ids=np.array([item.item_id for item in items]),
            **_columns(impressions),
        )
        _flush(*aside.iterdir(), aside, self._home)
        return ImportDescription(folder, digest, len(impressions), response_auc)

    def make_current(
        self, transaction: Transaction, about: ImportDescription, users: Sequence[UserKey]
    ) -> None:
        """Make a staged world current, in the transaction of its items and users.

        Args:
            transaction: the transaction that writes them.
            about: as `stage` returned it.
            users: pseudonyms of the imported users, in order.
        """
        transaction.put_imported_world(msgspec.json.encode(about), msgspec.msgpack.encode(users))

    def prune(self, about: ImportDescription) -> None:
        """Remove all folders except the current import's."""
        for path in self._home.iterdir():
            if path.name != about.folder:
                shutil.rmtree(path)

    def copy(self, view: View, target: Path) -> None:
        """Copy the current world, if any, into a data folder; call it inside `alone`."""
        about = self.about(view)
        if about is not None:
            home = target / self._home.name
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(self._home / about.folder, home / about.folder)


def digest_of(impressions: ImpressionTable, items: Sequence[Item], users: People) -> str:
    """Return a digest of all data that a world is fitted to."""
    digest = hashlib.blake2b(msgspec.msgpack.encode((items, users)), digest_size=16)
    for name, column in _columns(impressions).items():
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _numbered(model: ResponseModel, users: People) -> ResponseModel:
    """Return the model with users' indices in place of their ids."""
    place = {user_id: str(k) for k, (user_id, _) in enumerate(users)}
    ids = tuple(UserId(place[user_id]) for user_id in model.users.ids)
    return msgspec.structs.replace(model, users=msgspec.structs.replace(model.users, ids=ids))


def _columns(impressions: ImpressionTable) -> dict[str, Any]:
    return {field.name: getattr(impressions, field.name) for field in fields(impressions)}


def _flush(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
