"""Generated items with vectors that are clustered like title embeddings, in any number.

The items are those of `env.world.generated`; a vector is drawn for each from a hierarchy of topic,
subtopic and kind, plus noise, which gives 1,024 clusters of very different sizes. Construction:
`docs/decisions/bench-decide.md`.
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from env.columns.schema import VECTOR_DIM
from env.items.content import static_blocks
from env.records import ItemRecord
from env.vocabulary import CreatorId, Floats, Item, ItemId
from env.world import generated
from env.world.generated import SUBTOPICS, TOPICS

KINDS = 8
"""Clusters in each subtopic."""

SUBTOPIC, KIND, NOISE = 0.8, 0.6, 0.8
"""Lengths of the vectors added to a topic's unit vector."""

_CHUNK = 10_000


class EmbeddingGenerator:
    """Generates item records with drawn embeddings."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        rng = np.random.default_rng([seed, 4])
        shape = (len(TOPICS), len(SUBTOPICS), KINDS)
        self._topics = _directions(rng, shape[:1])
        self._subtopics = _directions(rng, shape[:2])
        self._kinds = _directions(rng, shape)
        self._shares = rng.lognormal(0.0, 1.0, KINDS)
        self._places = {name: k for k, name in enumerate(TOPICS)}

    def records(self, n: int, now_ms: int) -> Iterator[ItemRecord]:
        """Yield n items as records that are not launches.

        They are generated in chunks, each with creators of its own, so that no leftovers distort
        the memory measurement.
        """
        rng = np.random.default_rng([self._seed, 5])
        for k, begin in enumerate(range(0, n, _CHUNK)):
            items = generated.catalogue(self._seed + k, min(_CHUNK, n - begin), now_ms)
            for item, block in zip(items, self._blocks(items, rng), strict=True):
                named = msgspec.structs.replace(
                    item,
                    item_id=ItemId(f"{item.item_id}-{k}"),
                    creator=CreatorId(f"{item.creator}-{k}"),
                )
                yield ItemRecord(named.item_id, now_ms, named, block)

    def _blocks(self, items: list[Item], rng: np.random.Generator) -> list[bytes]:
        topic = np.array([self._places[item.tags[0]] for item in items])
        names = [item.tags[1].rpartition("/")[2] for item in items]
        subtopic = np.array([SUBTOPICS.index(name) for name in names])
        kind = rng.choice(KINDS, len(items), p=self._shares / self._shares.sum())
        noise = rng.standard_normal((len(items), VECTOR_DIM)) / np.sqrt(VECTOR_DIM)
        vectors = (
            self._topics[topic]
            + SUBTOPIC * self._subtopics[topic, subtopic]
            + KIND * self._kinds[topic, subtopic, kind]
            + NOISE * noise
        )
        duration_s = np.array([item.duration_s or 0.0 for item in items])
        blocks = static_blocks(vectors, duration_s).astype("<f2")
        return [block.tobytes() for block in blocks]


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    drawn = rng.standard_normal((*shape, VECTOR_DIM))
    unit: Floats = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return unit
