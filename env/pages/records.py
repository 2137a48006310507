"""Conversion of pages to log records and back, exact to the last bit, and to interactions.

A record refers to the candidates' static features by content hash, and `Blocks` resolves those
hashes from the log's item records. Both directions stand in one module so that neither is changed
alone. Rejected alternatives: `docs/decisions/event-records.md`.
"""

from collections.abc import Mapping

import numpy as np

from env.columns.schema import static_of, widened
from env.records import (
    Card,
    Drawn,
    ItemRecord,
    PageRecord,
    Record,
    RuleRecord,
    block_hash,
    item_key,
    pack_halves,
    unpack_halves,
)
from env.vocabulary import (
    Bools,
    Context,
    Decision,
    Features,
    Feedback,
    Interaction,
    ItemId,
    Keys,
    Page,
    SlotRule,
    decision_id,
)

_SEEN = Feedback(seen=True, left=True)


def interaction_of(
    page: Page, decision: Decision, reward: float, *, n_actions: int | None = None
) -> Interaction:
    """Return a decision of a page with its reward; the card counts as seen and left.

    Args:
        page: holds the decision.
        decision: of that page.
        reward: of the decision.
        n_actions: candidates left to choose from; all of the page's if None.
    """
    context, features = page.context, page.context.features
    return Interaction(
        decision_id=decision.decision_id,
        page_id=context.page_id,
        user=context.user,
        session=context.session,
        item_id=decision.item_id,
        slot=decision.slot,
        policy=decision.policy,
        propensity=decision.propensity,
        n_actions=len(context) if n_actions is None else n_actions,
        shared=pack_halves(features.shared),
        action=pack_halves(features.actions[decision.action]),
        item_key=int(features.keys[decision.action]),
        duration_s=0.0,
        feedback=_SEEN,
        reward=reward,
        scene=context.scene,
        closed_ms=0,
    )


def page_record(
    page: Page,
    *,
    blocks: bytes,
    n_static: int,
    feature_schema: int,
    cards: tuple[Card, ...],
    reasons: tuple[str, ...],
    arm: str = "",
    degraded: str = "",
    removed: Mapping[str, int] | None = None,
    proposers: tuple[int, ...] = (),
) -> PageRecord:
    """Return the log record of a page; `Blocks.page` is its inverse.

    Args:
        page: as `fill_page` returned it, with at least one decision.
        blocks: content hashes of the candidates' static blocks, 8 bytes each.
        n_static: width of a static block; the columns after it are dynamic.
        feature_schema: schema number of the features.
        cards: description of each drawn item, in slot order.
        reasons: retrieval source of each drawn item, in slot order.
        arm: name of the experiment's arm; empty without one.
        degraded: reason why the page falls short of the request; empty if it does not.
        removed: number of items that the filters removed, by reason; None for none.
        proposers: number of sources that proposed each drawn item, in slot order.
    """
    context = page.context
    rules, slots = _distinct_rules(page.slots)
    return PageRecord(
        page_id=context.page_id,
        at_ms=context.scene.at_ms,
        user=context.user,
        session=context.session,
        scene=context.scene,
        candidates=context.candidates,
        blocks=blocks,
        dynamic=pack_halves(context.features.actions[:, n_static:]),
        shared=pack_halves(context.features.shared),
        feature_schema=feature_schema,
        rules=rules,
        slots=slots,
        drawn=tuple(Drawn(d.slot, d.action, d.propensity) for d in page.decisions),
        cards=cards,
        reasons=reasons,
        policy=page.decisions[0].policy,
        explorer=page.explorer,
        eps=page.eps,
        arm=arm,
        degraded=degraded,
        removed=dict(removed or {}),
        proposers=proposers,
    )


class Blocks:
    """The items' blocks by content hash: a fold of the log's `ItemRecord`s."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, bytes] = {}

    def fold(self, record: Record) -> None:
        """Remember the block of an item record; other records change nothing."""
        if isinstance(record, ItemRecord) and record.block:
            self.add(record.block)

    def add(self, block: bytes) -> None:
        """Remember an item's block, float16 bytes."""
        self._blocks.setdefault(block_hash(block), block)

    def __contains__(self, content_hash: bytes) -> bool:
        return content_hash in self._blocks

    def block(self, content_hash: bytes) -> bytes:
        """Return the block of a content hash, float16 bytes.

        Raises:
            KeyError: it was never added.
        """
        return self._blocks[content_hash]

    def page(self, record: PageRecord) -> Page:
        """Return the page that a record was made of, equal to the last bit.

        Columns that an earlier schema did not have are 0.

        Raises:
            KeyError: a candidate's block is not in the part of the log that was folded.
        """
        n = len(record.candidates)
        hashes = (record.blocks[8 * i : 8 * i + 8] for i in range(n))
        static = unpack_halves(b"".join(static_of(self._blocks[h]) for h in hashes))
        width = len(record.dynamic) // n
        rows = (record.dynamic[k * width : (k + 1) * width] for k in range(n))
        dynamic = unpack_halves(b"".join(map(widened, rows))).reshape(n, -1)
        features = Features(
            shared=unpack_halves(record.shared),
            actions=np.concatenate([static.reshape(n, -1), dynamic], axis=1),
            keys=_keys(record.candidates),
        )
        context = Context(
            page_id=record.page_id,
            user=record.user,
            session=record.session,
            scene=record.scene,
            candidates=record.candidates,
            features=features,
        )
        rules = [_rule(rule, n) for rule in record.rules]
        slots = tuple(rules[i] for i in record.slots)
        return Page(context, slots, decisions_of(record), record.eps, record.explorer)


def decisions_of(record: PageRecord) -> tuple[Decision, ...]:
    """Return the decisions of a logged page."""
    return tuple(
        Decision(
            decision_id=decision_id(record.page_id, drawn.slot),
            slot=drawn.slot,
            action=drawn.action,
            item_id=record.candidates[drawn.action],
            propensity=drawn.propensity,
            policy=record.policy,
        )
        for drawn in record.drawn
    )


def _keys(candidates: tuple[ItemId, ...]) -> Keys:
    return np.array([item_key(item_id) for item_id in candidates], dtype=np.uint64)


def _pack_bits(mask: Bools) -> bytes:
    return np.packbits(mask, bitorder="little").tobytes()


def _rule(record: RuleRecord, n: int) -> SlotRule:
    def unpack(data: bytes) -> Bools:
        bits = np.frombuffer(data, dtype=np.uint8)
        return np.unpackbits(bits, count=n, bitorder="little").astype(np.bool_)

    return SlotRule(unpack(record.mask), unpack(record.eligible), record.name)


def _distinct_rules(
    slots: tuple[SlotRule, ...],
) -> tuple[tuple[RuleRecord, ...], tuple[int, ...]]:
    by_identity: dict[int, int] = {}
    rules: list[RuleRecord] = []
    for rule in slots:
        if id(rule) not in by_identity:
            by_identity[id(rule)] = len(rules)
            rules.append(RuleRecord(rule.name, _pack_bits(rule.mask), _pack_bits(rule.eligible)))
    return tuple(rules), tuple(by_identity[id(rule)] for rule in slots)
