"""A user's data for the user: everything of theirs that is kept, as lines of JSON in plain words.

The first line is the user with the profile and what was learned of them; the rest are their records
in the log, in its order. Features, masks and vectors are left out: numbers that say nothing without
the model. A file appears only once it is complete.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from env.history import past_views
from env.records import (
    BlockRecord,
    FeedbackRecord,
    HistoryRecord,
    PageRecord,
    Record,
    UserRecord,
)
from env.users.state import UserState, blocked_creators, followed
from env.vocabulary import PageId, UserId, UserKey
from serve.config import Config
from serve.errors import JobError
from serve.jobs.export import Advance, whole_file
from serve.store.data_folder import open_data
from serve.store.ledger import WritePath
from serve.store.store import write_now

Line = dict[str, object]


def export_user(config: Config, user_id: UserId, file: Path, advance: Advance | None = None) -> int:
    """Write all that is kept of a user; return the number of lines.

    Args:
        config: names the data folder.
        user_id: the caller's id of the user.
        file: must not exist.
        advance: progress callback; the total is the number of log lines.

    Raises:
        JobError: there is no log or no such user, or the file exists.
        LogCorruption: a line differs from the written one.
    """
    encoder, n = msgspec.json.Encoder(), 0
    with open_data(config) as store, whole_file(file) as out:
        with store.view(user_id) as view:
            registered = view.user(user_id)
        if registered is None:
            raise JobError(f"expected the id of a registered user, got {user_id!r}")
        out.write(encoder.encode(_learned(user_id, registered.state)) + b"\n")
        n += 1
        pages: dict[PageId, PageRecord] = {}
        for line in store.log.read():
            for told in _lines(line.record, registered.user, pages):
                out.write(encoder.encode(told) + b"\n")
                n += 1
            if advance is not None:
                advance(1)
    return n


def forget_user(config: Config, user_id: UserId, at_ms: int) -> None:
    """Forget a user, as `DELETE /v1/users/{user_id}` does; a server may be running.

    Raises:
        JobError: there is no log, or no such user.
    """
    with open_data(config, now_ms=lambda: at_ms) as store:
        work = partial(WritePath(store).forget_user, user_id=user_id, at_ms=at_ms)
        if not write_now(store, work, about=user_id):
            raise JobError(f"expected the id of a registered user, got {user_id!r}")


def _learned(user_id: UserId, state: UserState) -> Line:
    return {
        "kind": "user",
        "user_id": user_id,
        "profile": state.profile,
        "cards_seen": state.n_cards,
        "returns": state.n_returns,
        "last_active": _time(state.last_ms) if state.last_ms else None,
        "follows": sorted(followed(state)),
        "blocked_creators": blocked_creators(state),
        "blocked_tags": state.blocked_tags,
        "recent_creators": [tally.name for tally in state.creators],
        "recent_tags": [tally.name for tally in state.tags],
        "recent_sounds": [tally.name for tally in state.sounds],
        "recent_languages": [tally.name for tally in state.languages],
    }


def _lines(record: Record, user: UserKey, pages: dict[PageId, PageRecord]) -> Iterator[Line]:
    """Yield the lines of a record, none where it is not the user's; pages are kept by id."""
    match record:
        case UserRecord() if record.user == user:
            profile = record.profile
            yield {"kind": "profile", "at": _time(record.at_ms), "profile": profile}
        case BlockRecord() if record.user == user:
            kind = "unblock" if record.wanted else "block"
            told = {"creators": record.creators, "tags": record.tags}
            yield {"kind": kind, "at": _time(record.at_ms), **told}
        case HistoryRecord() if record.user == user:
            for view in past_views(record):
                acts = [act.kind for act in view.reports if act.kind not in ("dwell", "leave")]
                yield {
                    "kind": "imported",
                    "at": _time(view.at_ms),
                    "source": record.source,
                    "item_id": view.card.item_id,
                    "seconds": view.feedback.dwell_s if view.feedback.left else None,
                    "events": acts,
                }
        case PageRecord() if record.user == user:
            pages[record.page_id] = record
            yield _page(record)
        case FeedbackRecord() if record.user == user:
            yield _event(record, pages)
        case _:
            pass


def _page(record: PageRecord) -> Line:
    drawn = zip(record.drawn, record.cards, record.reasons, strict=True)
    return {
        "kind": "page",
        "at": _time(record.at_ms),
        "page_id": record.page_id,
        "session": record.session,
        "scene": record.scene,
        "arm": record.arm,
        "policy": record.policy,
        "cards": [
            {
                "item_id": card.item_id,
                "slot": place.slot,
                "probability": place.propensity,
                "proposed_by": reason,
            }
            for place, card, reason in drawn
        ],
    }


def _event(record: FeedbackRecord, pages: dict[PageId, PageRecord]) -> Line:
    page_id, _, slot = record.decision_id.rpartition(":")
    page = pages.get(PageId(page_id))
    shown = {} if page is None else dict(zip([d.slot for d in page.drawn], page.cards, strict=True))
    card = shown.get(int(slot))
    return {
        "kind": record.kind,
        "at": _time(record.at_ms),
        "page_id": page_id,
        "item_id": None if card is None else card.item_id,
        "value": record.value or None,
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000.0, UTC).isoformat(timespec="milliseconds")
