"""Records for tests of the log."""

from env.records import (
    Card,
    Drawn,
    FeedbackRecord,
    ItemRecord,
    PageRecord,
    Record,
    RuleRecord,
    TickRecord,
    UserRecord,
)
from env.vocabulary import (
    CreatorId,
    DecisionId,
    Item,
    ItemId,
    PageId,
    Profile,
    Scene,
    SessionId,
    UserId,
    UserKey,
)


def feedback(event: str, page: str = "p", at_ms: int = 5) -> FeedbackRecord:
    return FeedbackRecord(
        event_id=event,
        decision_id=DecisionId(f"{page}:0"),
        at_ms=at_ms,
        user=UserKey("k1"),
        session=SessionId("s1"),
        kind="dwell",
        value=1.5,
    )


def page(page_id: str = "p", at_ms: int = 4) -> PageRecord:
    return PageRecord(
        page_id=PageId(page_id),
        at_ms=at_ms,
        user=UserKey("k1"),
        session=SessionId("s1"),
        scene=Scene(at_ms, country="GB"),
        candidates=(ItemId("a"), ItemId("b")),
        blocks=bytes(16),
        dynamic=b"\x00\x3c\x00\x40",
        shared=b"\x00\x3c",
        feature_schema=1,
        rules=(RuleRecord("open", b"\x03", b"\x02"),),
        slots=(0,),
        drawn=(Drawn(0, 1, 0.1 + 0.2),),
        cards=(Card(ItemId("b"), b"\x00\x3c", CreatorId("c"), ("cats",), 12.5),),
        reasons=("fresh",),
        policy="uniform@0",
        explorer={"kind": "uniform", "weights": [0.5, 0.5]},
        eps=0.05,
    )


def tick(at_ms: int) -> TickRecord:
    return TickRecord(at_ms)


EVERY_KIND: tuple[Record, ...] = (
    page(),
    feedback("e1"),
    ItemRecord(ItemId("a"), 1, Item(ItemId("a"), title="Katze 🐈", vector=(0.5,)), b"\x00\x3c"),
    ItemRecord(ItemId("a"), 9),
    UserRecord(UserKey("k1"), 2, UserId("me"), Profile(country="GB", apps=("chess",))),
    UserRecord(UserKey("k1"), 3),
    tick(7),
)
