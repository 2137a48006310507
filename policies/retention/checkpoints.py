"""Checkpoints of a training: each is written aside and renamed, and the last two are kept.

    folder/checkpoint-000120   RLlib's own checkpoint after that many iterations

RLlib's checkpoints hold pickles, so only training reads them, from its own folder. A crash leaves
the last complete checkpoint and perhaps a `.writing` folder, which the next save removes.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from env.presets import load
from policies.retention.args import FeedWorld, RetentionArgs
from policies.retention.training_folder import WRITING, keep_args, keep_preset, sync_folder

_PREFIX = "checkpoint-"
KEPT = 2


class Checkpoints:
    """The folder of one training."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def open(cls, folder: Path, args: RetentionArgs) -> "Checkpoints":
        """Return the folder of a training, created if missing.

        Raises:
            ValueError: it holds a training of other arguments.
        """
        keep_args(folder, args)
        if isinstance(args.world, FeedWorld):
            keep_preset(folder, load(args.world.preset))
        return cls(folder)

    def latest(self) -> Path | None:
        """Return the last complete checkpoint, if there is one."""
        whole = self._whole()
        return whole[-1] if whole else None

    def restore(self, algorithm: Any) -> int:
        """Restore an algorithm from the last checkpoint; return its number of iterations."""
        latest = self.latest()
        if latest is None:
            return 0
        algorithm.restore_from_path(str(latest.absolute()))
        return int(latest.name.removeprefix(_PREFIX))

    def save(self, algorithm: Any, iteration: int) -> None:
        """Write a checkpoint and delete those before the last two."""
        place = self._folder / f"{_PREFIX}{iteration:06d}"
        written = self._folder / WRITING
        shutil.rmtree(written, ignore_errors=True)
        algorithm.save_to_path(str(written.absolute()))
        _sync(written)
        shutil.rmtree(place, ignore_errors=True)
        written.replace(place)
        sync_folder(self._folder)
        for old in self._whole()[:-KEPT]:
            shutil.rmtree(old)

    def _whole(self) -> list[Path]:
        return sorted(self._folder.glob(f"{_PREFIX}*"))


def _sync(folder: Path) -> None:
    """Flush every file below a folder to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
