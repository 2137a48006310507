"""What is kept of imported impressions: the world fitted to them, its people, and how good it is.

A folder of the data folder. `about.json` says which import is the current one and names its
subfolder; it is replaced last and at once, so a reader finds the import before or the one after,
never half of one. People stand here by the caller's ids: whoever must forget an imported person
removes the folder, or imports anew without them.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from env.impressions import Impressions
from env.responses import ResponseModel
from env.vocabulary import Item, Profile, UserId

ABOUT, MODEL, PEOPLE, IMPRESSIONS = "about.json", "model", "people", "impressions.npz"

People = list[tuple[UserId, Profile]]


class About(msgspec.Struct, frozen=True):
    """What the current import is.

    Attributes:
        digest: of all that was imported; equal imports are one.
        n_impressions: how many.
        response_auc: of valid plays on the last day, by the model fitted to the days before.
    """

    digest: str
    n_impressions: int
    response_auc: float


class ImportedWorld:
    """The folder of imports of one data folder; it may be missing."""

    def __init__(self, data: Path) -> None:
        """Look into this data folder."""
        self._folder = data / "imports"

    def about(self) -> About | None:
        """Return what is there; None: nothing was imported."""
        path = self._folder / ABOUT
        return msgspec.json.decode(path.read_bytes(), type=About) if path.exists() else None

    def load(self, about: About) -> tuple[ResponseModel, People]:
        """Return the fitted model and the imported people."""
        home = self._folder / about.digest
        model = ResponseModel.from_bytes((home / MODEL).read_bytes())
        return model, msgspec.msgpack.decode((home / PEOPLE).read_bytes(), type=People)

    def keep(
        self,
        about: About,
        model: ResponseModel,
        impressions: Impressions,
        items: Sequence[Item],
        people: People,
    ) -> None:
        """Make this import the current one, on disk when this returns, and drop the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f"unfinished-{uuid.uuid4().hex}"
        aside.mkdir()
        (aside / MODEL).write_bytes(model.to_bytes())
        (aside / PEOPLE).write_bytes(msgspec.msgpack.encode(people))
        np.savez_compressed(
            aside / IMPRESSIONS,
            item_ids=np.array([item.item_id for item in items]),
            user_ids=np.array([user_id for user_id, _ in people]),
            **_columns(impressions),
        )
        (aside / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about)))
        _flush(*aside.iterdir(), aside)
        home = self._folder / about.digest
        if home.exists():  # an import that was killed before it became the current one
            shutil.rmtree(home)
        aside.rename(home)
        (home / ABOUT).rename(self._folder / ABOUT)
        _flush(home, self._folder)
        self._prune(about)

    def _prune(self, about: About) -> None:
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != about.digest:
                shutil.rmtree(path)


def digest_of(impressions: Impressions, items: Sequence[Item], people: People) -> str:
    """Return a digest of all that a world is fitted to: equal imports have equal ones."""
    digest = hashlib.blake2b(msgspec.msgpack.encode((items, people)), digest_size=16)
    for name, column in _columns(impressions).items():
        digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _columns(impressions: Impressions) -> dict[str, Any]:
    return {field.name: getattr(impressions, field.name) for field in fields(impressions)}


def _flush(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
