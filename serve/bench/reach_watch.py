"""Counts cards that were drawn for somebody who is outside of their pool, page by page.

An upload in pool 0 is for its home: the country and, where both are known, the language; in pool 1
for the country, in pool 2 for its neighbours too; a stopped one is for nobody. Somebody whose
country is unknown is outside of all of these. What the people of a page saw of it does not matter.

Which pool an upload is in is asked of the fold itself, by its records for the audit, once a turn;
the rules are written down here once more, over ids and names. So neither the columns by which
pages were drawn nor the rules that were applied to them are their own judge.

Rejected: judging by `Reach` of the pipeline (an upload in the wrong column would be in the right
pool), and afterwards (an upload moves on between pages).
"""

from env.audience_args import OPEN_LEVEL, Pools
from env.audiences import Audiences
from env.content import duplicate_key, home_country
from env.reach import UploadState
from env.records import PageRecord
from env.vocabulary import Item, ItemId, Scene
from serve.pipeline import Pipeline

Shared = tuple[int, str, str]
"""What near-duplicates that are one upload have in common: content, home and creator."""

HOME_LEVEL = 0
"""The pool of those at home who speak the language."""
PROVEN_LEVEL = 2
"""The pool that opens the neighbours."""


class ReachWatch:
    """Sees pages, see `serve.bench.served_world.Witness`; `follow` tells it by which fold to judge.

    Attributes:
        outside: cards drawn for somebody outside of their pool.
        stopped: cards of uploads that were stopped.
        on_trial: cards of uploads below the open pool: what could have been either.
    """

    def __init__(self, pools: Pools) -> None:
        """Start without a page.

        Args:
            pools: whose neighbours count.
        """
        self.outside = self.stopped = self.on_trial = 0
        self._pools = pools
        self._audiences: Audiences | None = None
        self._at_ms = -1
        self._uploads: dict[Shared, UploadState] = {}
        self._keys: dict[ItemId, Shared] = {}

    def follow(self, audiences: Audiences) -> None:
        """Judge by this fold, which moves between turns only."""
        self._audiences, self._at_ms = audiences, -1

    def see(self, page: PageRecord, pipeline: Pipeline) -> None:
        """Count a page's cards."""
        catalogue = pipeline.catalogue
        if page.at_ms != self._at_ms:
            self._at_ms = page.at_ms
            self._uploads = self._read(pipeline)
        for card in page.cards:
            index = catalogue.index_of(card.item_id)
            if index is None or not catalogue.debuts[index]:
                continue
            item = catalogue.item(index)
            # A debut that the fold has not met was put in this turn.
            upload = self._uploads.get(self._key(item))
            level = upload.level if upload is not None else HOME_LEVEL
            self.stopped += upload is not None and bool(upload.stopped)
            if level < OPEN_LEVEL:
                self.on_trial += 1
                self.outside += not is_inside(item, level, page.scene, self._pools)

    def _read(self, pipeline: Pipeline) -> dict[Shared, UploadState]:
        """Return what the fold says of uploads, by the key that near-duplicates share."""
        if self._audiences is None:
            raise ValueError("expected a fold to judge by, got none: call `follow` first")
        return {
            self._key(item): upload
            for upload in self._audiences.uploads()
            if (item := _item(pipeline, upload.item_id)) is not None
        }

    def _key(self, item: Item) -> Shared:
        key = self._keys.get(item.item_id)
        if key is None:
            shared = duplicate_key(item), home_country(item), item.creator
            key = self._keys[item.item_id] = shared
        return key


def is_inside(item: Item, level: int, scene: Scene, pools: Pools) -> bool:
    """Return whether an upload of a pool below the open one may be shown in a scene.

    Countries and languages are as `env.scenes` has them: "GB", "en".

    >>> item, scene = Item(ItemId("a"), language="en", country="GB"), Scene(0, "GB", "fr")
    >>> [is_inside(item, level, scene, Pools()) for level in (0, 1)]
    [False, True]
    """
    home = home_country(item)
    if not home:
        return True
    if scene.country != home:
        near = pools.neighbours.get(home, ()) if level == PROVEN_LEVEL else ()
        return scene.country in near
    is_foreign = bool(item.language and scene.language) and item.language != scene.language
    return level > HOME_LEVEL or not is_foreign


def _item(pipeline: Pipeline, item_id: ItemId) -> Item | None:
    index = pipeline.catalogue.index_of(item_id)
    return None if index is None else pipeline.catalogue.item(index)
