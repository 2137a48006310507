"""A hook in a file, which answers by an item's media and writes down what it was asked."""

from pathlib import Path

from env.vocabulary import Item, ItemId
from serve.config import ContentSettings, Custom
from serve.content.hook import HookArgs

SOURCE = """
import os
from pathlib import Path
from threading import Event


def embed(items):
    with Path("asked.txt").open("a") as file:
        file.writelines(f"{item.item_id}\\n" for item in items)
    return [answer(item.media) for item in items]


def answer(media):
    match media:
        case "raise":
            raise RuntimeError("cannot be decoded")
        case "exit":
            os._exit(7)
        case "hang":
            Event().wait()
        case "none":
            return None
        case "text":
            return "abc"
        case "nan":
            return [1.0, float("nan"), 0.0]
        case "matrix":
            return [[1.0, 2.0]]
        case "long":
            return [1.0] * 5
    return [float(len(media)), 1.0, 0.5]


def wider(items):
    return [[0.5, *answer(item.media)] for item in items]


def many(items):
    return [[float((7 * len(item.media) + 3) ** k % 101) for k in range(80)] for item in items]


def too_few(items):
    return []


NO_FUNCTION = 3
"""


def write_hook(folder: Path, source: str = SOURCE) -> None:
    """Write the module `hooks` into a folder, and make one for media."""
    (folder / "hooks.py").write_text(source)
    (folder / "media").mkdir(exist_ok=True)


def hook_args(folder: Path, name: str = "hooks:embed") -> HookArgs:
    return HookArgs(name, str(folder), str(folder / "media"))


def hook_settings(folder: Path, name: str = "hooks:embed") -> tuple[ContentSettings, Custom]:
    """Return the sections of settings that name the hook in a folder."""
    content = ContentSettings(titles=False, embed=name, media_folder=str(folder / "media"))
    return content, Custom(folder=str(folder))


def asked(folder: Path) -> list[str]:
    """Return the ids that the hook was asked about, in order."""
    file = folder / "media" / "asked.txt"
    return file.read_text().split() if file.exists() else []


def with_media(media: str, name: str = "") -> Item:
    return Item(ItemId(name or media), media=media, tags=("cats",))


def answer_to(media: str) -> tuple[float, ...]:
    """Return the vector of a media that the hook knows."""
    return (float(len(media)), 1.0, 0.5)
