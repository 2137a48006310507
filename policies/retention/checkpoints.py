"""Checkpoints of a training: written beside their place, put there whole, kept two at a time.

    folder/training.json       the arguments; a training of others is refused
    folder/checkpoint-000120   RLlib's own checkpoint after that many iterations

RLlib's checkpoints hold pickles. Only training reads them, from its own folder; what is served is
the exported ranker. A kill between two renames leaves the last whole checkpoint, or a folder named
`.writing`, which is thrown away.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from policies.retention.args import RetentionArgs

RANKER = "ranker.safetensors"
"""What a training leaves in its folder, and `nextswipe retention publish` takes."""
_ARGS = "training.json"
_WRITING = ".writing"
_PREFIX = "checkpoint-"
KEPT = 2


class Checkpoints:
    """The folder of one training."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that exists; see `open`."""
        self._folder = folder

    @classmethod
    def open(cls, folder: Path, args: RetentionArgs) -> "Checkpoints":
        """Return the folder of a training, made if it is not there.

        Raises:
            ValueError: it holds a training of other arguments.
        """
        keep_args(folder, args)
        return cls(folder)

    def latest(self) -> Path | None:
        """Return the last whole checkpoint, if there is one."""
        whole = self._whole()
        return whole[-1] if whole else None

    def restore(self, algorithm: Any) -> int:
        """Bring an algorithm to the last checkpoint; returns the iterations that were done."""
        latest = self.latest()
        if latest is None:
            return 0
        algorithm.restore_from_path(str(latest.absolute()))
        return int(latest.name.removeprefix(_PREFIX))

    def save(self, algorithm: Any, iteration: int) -> None:
        """Write a checkpoint and throw away those before the last two."""
        place = self._folder / f"{_PREFIX}{iteration:06d}"
        written = self._folder / _WRITING
        shutil.rmtree(written, ignore_errors=True)
        algorithm.save_to_path(str(written.absolute()))
        _sync(written)
        shutil.rmtree(place, ignore_errors=True)
        written.replace(place)
        _sync_folder(self._folder)
        for old in self._whole()[:-KEPT]:
            shutil.rmtree(old)

    def _whole(self) -> list[Path]:
        return sorted(self._folder.glob(f"{_PREFIX}*"))


def holds_training(folder: Path) -> bool:
    """Whether a folder holds a training, done or not."""
    return (folder / _ARGS).exists()


def keep_args(folder: Path, args: msgspec.Struct) -> None:
    """Make the folder of a training, or find that it holds one of the same arguments.

    Args:
        folder: made if it is not there.
        args: of the training, of whatever kind.

    Raises:
        ValueError: it holds a training of other arguments, or of another kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ARGS
    if not path.exists():
        write_whole(path, msgspec.json.format(msgspec.json.encode(args)))
        return
    try:
        held = msgspec.json.decode(path.read_bytes(), type=type(args))
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{folder} holds a training of another kind ({error}): expected it to be gone on with "
            "in its own way, or another folder"
        ) from error
    if held != args:
        raise ValueError(
            f"{folder} holds a training of other arguments ({_differences(held, args)}): "
            "expected the same ones to go on with it, or another folder"
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and put it there whole."""
    written = path.with_name(path.name + _WRITING)
    with written.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    _sync_folder(path.parent)


def _differences(held: msgspec.Struct, args: msgspec.Struct) -> str:
    names = (n for n in args.__struct_fields__ if getattr(held, n) != getattr(args, n))
    return ", ".join(f"{n} {getattr(held, n)!r}, not {getattr(args, n)!r}" for n in names)


def _sync(folder: Path) -> None:
    """Bring every file below a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
