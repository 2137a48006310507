"""The join's state of pages whose decisions still wait for feedback.

It keeps only the drawn cards, with the features they were drawn on. All candidates would make the
state ten times as large.
"""

import msgspec
from msgspec.structs import replace

from env.records import FeedbackRecord, PageRecord, item_key
from env.reward import Reward
from env.vocabulary import (
    Feedback,
    Interaction,
    ItemId,
    PageId,
    Scene,
    SessionId,
    UserKey,
    decision_id,
)

UNSEEN_MS = 3_600_000
PATIENCE_MS = 60_000
UNKNOWN_PATIENCE_MS = 120_000


class OpenDecision(msgspec.Struct, array_like=True, gc=False):
    """A decision that waits for feedback."""

    item_id: ItemId
    propensity: float
    n_actions: int  # number of candidates available to its slot
    action: bytes  # float16 bytes, the static block and the dynamic columns of the chosen candidate
    duration_s: float
    feedback: Feedback
    impressed: bool  # an impression was reported; other events imply only that it was seen
    deadline_ms: int  # time at which it closes without further feedback; 0 until it is seen


class OpenPage(msgspec.Struct, array_like=True):
    """The data shared by the open decisions of a page."""

    page_id: PageId
    order: int  # number of the page in the log, from 1
    user: UserKey
    session: SessionId
    scene: Scene
    shared: bytes
    policy: str
    expires_ms: int  # time at which its unseen decisions are dropped
    decisions: dict[int, OpenDecision]  # the open ones, by slot

    @property
    def visit(self) -> tuple[UserKey, SessionId]:
        """The visit of the page; session ids are unique only within a user."""
        return self.user, self.session


def open_page(record: PageRecord, order: int) -> OpenPage:
    """Return a new open page, with all its decisions unseen."""
    return OpenPage(
        page_id=record.page_id,
        order=order,
        user=record.user,
        session=record.session,
        scene=record.scene,
        shared=record.shared,
        policy=record.policy,
        expires_ms=record.at_ms + UNSEEN_MS,
        decisions=_open_decisions(record),
    )


def merge(feedback: Feedback, record: FeedbackRecord) -> Feedback:
    """Return the feedback with one more event: any event means seen, the longest dwell counts.

    The join decides whether the card was left, because most cards are left without a `leave`.
    """
    match record.kind:
        case "impression" | "leave":
            return replace(feedback, seen=True)
        case "dwell":
            return replace(feedback, seen=True, dwell_s=max(feedback.dwell_s, record.value))
        case event:
            return replace(feedback, seen=True, **{event: True})


def patience_ms(duration_s: float) -> int:
    """Return the attribution timeout after the last feedback on a card that was not left.

    >>> patience_ms(15.0), patience_ms(0.0)
    (90000, 120000)
    """
    if duration_s <= 0.0:
        return UNKNOWN_PATIENCE_MS
    return round(2_000 * duration_s) + PATIENCE_MS


def close(page: OpenPage, slot: int, reward: Reward) -> Interaction:
    """Return a decision with its feedback so far; the page is unchanged."""
    decision = page.decisions[slot]
    return Interaction(
        decision_id=decision_id(page.page_id, slot),
        page_id=page.page_id,
        user=page.user,
        session=page.session,
        item_id=decision.item_id,
        slot=slot,
        policy=page.policy,
        propensity=decision.propensity,
        n_actions=decision.n_actions,
        shared=page.shared,
        action=decision.action,
        item_key=item_key(decision.item_id),
        duration_s=decision.duration_s,
        feedback=decision.feedback,
        reward=reward.of(decision.feedback, decision.duration_s),
        scene=page.scene,
        closed_ms=decision.deadline_ms,
    )


def _open_decisions(record: PageRecord) -> dict[int, OpenDecision]:
    width = len(record.dynamic) // max(len(record.candidates), 1)
    masks = [int.from_bytes(rule.mask, "little") for rule in record.rules]
    left = -1  # all bits: candidates not taken by earlier slots
    decisions = {}
    for drawn, card in zip(record.drawn, record.cards, strict=True):
        row = record.dynamic[width * drawn.action : width * (drawn.action + 1)]
        decisions[drawn.slot] = OpenDecision(
            item_id=card.item_id,
            propensity=drawn.propensity,
            n_actions=(masks[record.slots[drawn.slot]] & left).bit_count(),
            action=card.block + row,
            duration_s=card.duration_s,
            feedback=Feedback(),
            impressed=False,
            deadline_ms=0,
        )
        left &= ~(1 << drawn.action)
    return decisions
