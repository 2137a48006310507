"""Items, catalogues and closed interactions for tests that need some and not these."""

from collections.abc import Iterable, Mapping

import msgspec

from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.statistics import ItemStates
from env.records import ItemRecord, pack_halves
from env.vocabulary import (
    DecisionId,
    Feedback,
    Interaction,
    Item,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
)

NOW_MS = 1_700_000_000_000
PLAYED = Feedback(seen=True, left=True, dwell_s=10.0)
SKIPPED = Feedback(seen=True, left=True, dwell_s=1.0)


def make_item(name: str, **fields: object) -> Item:
    return msgspec.convert({"item_id": name, **fields}, Item)


def put(item: Item) -> ItemRecord:
    return ItemRecord(item.item_id, 0, item, pack_halves(static_block(item)))


def catalogue_of(*items: Item) -> Catalogue:
    catalogue = Catalogue()
    for item in items:
        catalogue.apply(put(item))
    return catalogue


def catalogue_with(**items: Mapping[str, object]) -> Catalogue:
    """Return a catalogue of items named by the keywords, with these fields."""
    return catalogue_of(*(make_item(name, **fields) for name, fields in items.items()))


def catalogue_named(names: Iterable[str]) -> Catalogue:
    """Return a catalogue of items of which nothing but a name is known."""
    return catalogue_of(*map(make_item, names))


def interaction(
    name: str,
    feedback: Feedback = PLAYED,
    *,
    reward: float = 0.5,
    scene: Scene | None = None,
    at_ms: int = NOW_MS,
) -> Interaction:
    """Return an interaction with an item, closed at `at_ms`, in Britain if not elsewhere."""
    return Interaction(
        decision_id=DecisionId("p:0"),
        page_id=PageId("p"),
        user=UserKey("u"),
        session=SessionId("s"),
        item_id=ItemId(name),
        slot=0,
        policy="uniform@0",
        propensity=0.1,
        n_actions=10,
        shared=b"",
        action=b"",
        item_key=0,
        duration_s=30.0,
        feedback=feedback,
        reward=reward,
        scene=scene or Scene(at_ms, country="GB"),
        closed_ms=at_ms,
    )


def folded(interactions: Iterable[Interaction], states: ItemStates | None = None) -> ItemStates:
    states = ItemStates() if states is None else states
    for each in interactions:
        states.fold(each)
    return states
