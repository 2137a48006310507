"""Titles and handles for the generated catalogue, so that a first feed reads like short videos.

A title is a frame of the item's subtopic around a subject of its topic, in the item's language; a
handle is made of a name of the creator's country and a word of their topic. Both are drawn from a
hash of the id, never from the world's stream: nothing else of an item changes. Why they are put on
afterwards: `docs/decisions/demo-catalogue.md`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path

import msgspec

from env.records import item_key
from env.vocabulary import CreatorId, Item

PHRASES = Path(__file__).with_name("phrases.toml")
WORDLESS_LANGUAGE = "en"
"""Items without words belong to every language; their titles are in this one."""

_HANDLES = ("{name}.{word}", "{name}_{word}", "{word}.with.{name}", "{name}{word}")


class Phrases(msgspec.Struct, frozen=True):
    """The texts of `phrases.toml`."""

    frames: dict[str, dict[str, tuple[str, ...]]]  # by language and subtopic, with one {}
    subjects: dict[str, dict[str, tuple[str, ...]]]  # by language and topic
    names: dict[str, tuple[str, ...]]  # by country
    handles: dict[str, tuple[str, ...]]  # by topic


@lru_cache(maxsize=1)
def phrases() -> Phrases:
    """Return the texts that come with the project."""
    return msgspec.toml.decode(PHRASES.read_bytes(), type=Phrases)


def dressed(items: Sequence[Item]) -> list[Item]:
    """Return items of the generated catalogue with titles and creators of a real feed's kind.

    No two items share a title and no two creators a handle; equal catalogues give equal ones.

    Args:
        items: items of `env.world.generated.catalogue`, each with its tags of topic and subtopic.
    """
    titles: set[str] = set()
    handles: dict[CreatorId, CreatorId] = {}
    taken: set[str] = set()
    for item in items:
        if item.creator not in handles:
            handles[item.creator] = CreatorId(_first_free(_handles_of(item), taken, "{}{}"))
    return [
        msgspec.structs.replace(
            item,
            title=_first_free(_titles_of(item), titles, "{} #{}"),
            creator=handles[item.creator],
        )
        for item in items
    ]


def _titles_of(item: Item) -> list[str]:
    """Return all titles that suit an item, the one that its id draws first."""
    topic, subtopic = item.tags[0], item.tags[1].partition("/")[2]
    language = item.language if item.language in phrases().frames else WORDLESS_LANGUAGE
    frames = phrases().frames[language][subtopic]
    subjects = phrases().subjects[language][topic]
    texts = [frame.format(subject) for subject in subjects for frame in frames]
    return _turned([text[0].upper() + text[1:] for text in texts], f"title {item.item_id}")


def _handles_of(item: Item) -> list[str]:
    """Return all handles that suit an item's creator, the one that their id draws first."""
    names, words = phrases().names[item.country], phrases().handles[item.tags[0]]
    every = [
        pattern.format(name=name, word=word)
        for name in names
        for word in words
        for pattern in _HANDLES
    ]
    return _turned(every, f"handle {item.creator}")


def _turned(texts: list[str], key: str) -> list[str]:
    """Return the texts from one that the key draws, in steps that visit each of them once."""
    first = item_key(key) % len(texts)
    return texts[first:] + texts[:first]


def _first_free(texts: Sequence[str], taken: set[str], numbered: str) -> str:
    """Return the first text that is not taken, with a number if all are, and take it."""
    found = next((text for text in texts if text not in taken), None)
    if found is None:
        again = (numbered.format(texts[0], n) for n in count(2))
        found = next(text for text in again if text not in taken)
    taken.add(found)
    return found
