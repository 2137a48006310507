"""The folder of a training: its arguments, its world's constants, and its ranker.

    folder/training.json         the arguments; a training of others is refused
    folder/preset.json           the constants of the full world, since a file may be fitted anew
    folder/ranker.safetensors    the trained ranker, with its manifest

Files are written aside and renamed. Intermediate results are up to each kind of training.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from env.world.presets import Preset, load
from policies.training.settings import FeedWorld, RetentionArgs

RANKER = "ranker.safetensors"
"""The result of a training, which `nextswipe retention publish` takes."""

_ARGS, _PRESET = "training.json", "preset.json"
WRITING = ".writing"
"""Suffix of an incomplete file or folder."""


def holds_training(folder: Path) -> bool:
    """Whether a folder holds a training, done or not."""
    return (folder / _ARGS).exists()


def keep_args(folder: Path, args: msgspec.Struct) -> None:
    """Make the folder of a training, or check that it holds one of the same arguments.

    Raises:
        ValueError: see `require_room`.
    """
    require_room(folder, args)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ARGS
    if not path.exists():
        write_whole(path, msgspec.json.format(msgspec.json.encode(args)))


def require_room(folder: Path, args: msgspec.Struct) -> None:
    """Check that a folder holds no training, or one of the same arguments; make nothing.

    Raises:
        ValueError: it holds a training of other arguments, or of another kind.
    """
    path = folder / _ARGS
    if not path.exists():
        return
    try:
        held = msgspec.json.decode(path.read_bytes(), type=type(args))
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{folder} holds a training of another kind ({error}): expected the way that it was "
            "begun in, search or ppo, or another folder"
        ) from error
    if held != args:
        raise ValueError(
            f"{folder} holds a training of other arguments ({_differences(held, args)}): "
            "expected the same ones to go on with it, or another folder"
        )


def keep_preset(folder: Path, preset: Preset) -> None:
    """Save the constants of a training's world, or check that they are the same.

    Raises:
        ValueError: the training began in a world of other constants.
    """
    path, data = folder / _PRESET, preset.to_json()
    if not path.exists():
        write_whole(path, data)
    elif path.read_bytes() != data:
        raise ValueError(
            f"{folder} holds a training in a world of other constants: expected the preset "
            "as it was when it was begun, or another folder"
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside, then rename it, both flushed to disk."""
    written = path.with_name(path.name + WRITING)
    with written.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    sync_folder(path.parent)


def _differences(held: msgspec.Struct, args: msgspec.Struct) -> str:
    names = (n for n in args.__struct_fields__ if getattr(held, n) != getattr(args, n))
    return ", ".join(f"{n} {getattr(held, n)!r}, not {getattr(args, n)!r}" for n in names)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


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
