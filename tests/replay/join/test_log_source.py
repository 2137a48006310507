"""A log read batch by batch says what the dataset in memory says, and holds open pages only."""

import gc
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from worlds import LIKES, START_MS, World, lines

from env.interface import PageHistory, Policy
from env.records import (
    FeedbackRecord,
    LogLine,
    PageRecord,
    Record,
    UserRecord,
    decode_record,
    encode_record,
)
from env.vocabulary import PageId, Profile, UserId, UserKey, split_decision_id
from policies.baselines import UniformPolicy, mixture_policy
from replay.join.dataset import read
from replay.join.late import KeptPast
from replay.join.our_log import LogSource
from replay.join.rows import CoverageCounts
from replay.source import Batch, Source


def make_log(n_users: int = 25, pages_each: int = 3) -> list[Record]:
    """Two arms, one after the other; everybody of the first is registered in a cohort."""
    world = World(rng=np.random.default_rng(7))
    records: list[Record] = list(world.items())
    arms: tuple[tuple[Policy, str], ...] = (
        (UniformPolicy(), "uniform"),
        (mixture_policy(0.3), "popular"),
    )
    for user in range(n_users):
        profile = Profile(cohort=f"cohort{user % 2}")
        records.append(UserRecord(UserKey(f"uniformu{user}"), START_MS, UserId("x"), profile))
    for policy, arm in arms:
        for _, its_records in world.pages(policy, n_users, pages_each, eps=0.1, arm=arm):
            records += its_records
    return records


RECORDS = make_log()


def gathered(source: Source) -> Batch:
    """Return a small source's only batch."""
    (batch,) = source.batches()
    return batch


def first_seen(users: list[int]) -> list[int]:
    """Return each row's user by the order of their first row."""
    order = {user: i for i, user in enumerate(dict.fromkeys(users))}
    return [order[user] for user in users]


def assert_same(mine: Batch, theirs: Batch) -> None:
    for name in ("reward", "propensity", "action", "slot", "at_ms", "mask", "arm", "policy"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)
    users = [first_seen(batch.user.tolist()) for batch in (mine, theirs)]
    assert users[0] == users[1]
    for (page, rows), (other, its_rows) in zip(mine.pages, theirs.pages, strict=True):
        assert page.decisions == other.decisions
        np.testing.assert_array_equal(rows, its_rows)
        mine_features, its_features = page.context.features, other.context.features
        np.testing.assert_array_equal(mine_features.actions, its_features.actions)


def test_it_says_what_the_dataset_says() -> None:
    source = LogSource(lambda: lines(RECORDS), LIKES)
    log = read(lines(RECORDS), LIKES)
    assert_same(gathered(source), gathered(log))
    assert (len(source), source.coverage) == (len(log), log.coverage)
    assert source.users == {"uniform": 25, "popular": 25}


def test_one_arm_can_be_read_and_the_arms_are_counted_all_the_same() -> None:
    source = LogSource(lambda: lines(RECORDS), LIKES, arm="popular")
    log = read(lines(RECORDS), LIKES, lambda page: page.arm == "popular")
    assert_same(gathered(source), gathered(log))
    assert source.coverage == log.coverage
    assert source.users == {"uniform": 25, "popular": 25}


def test_pages_behind_an_offset_can_be_read() -> None:
    first = next(i for i, r in enumerate(RECORDS) if getattr(r, "arm", "") == "popular")
    late = LogSource(lambda: lines(RECORDS), LIKES, after=first)
    assert_same(gathered(late), gathered(LogSource(lambda: lines(RECORDS), LIKES, arm="popular")))
    whole = LogSource(lambda: lines(RECORDS), LIKES)
    assert whole.share_until(first) == pytest.approx(1.0 - len(late) / len(whole))
    assert (whole.share_until(0), whole.share_until(len(RECORDS))) == (0.0, 1.0)


def test_a_users_cohort_is_that_of_the_registration_before_the_page() -> None:
    batch = gathered(LogSource(lambda: lines(RECORDS), LIKES))
    assert set(batch.segments["cohort"]) == {"cohort0", "cohort1", "unknown"}
    of_arm = batch.segments["cohort"][batch.arm == "popular"]
    assert set(of_arm) == {"unknown"}


def test_what_drew_a_page_gives_its_propensities_again() -> None:
    def find(page: PageRecord) -> Policy | None:
        return mixture_policy(0.3) if page.arm == "popular" else None

    batch = gathered(LogSource(lambda: lines(RECORDS), LIKES, behaviour=find))
    assert batch.pmf is not None
    assert batch.arm is not None
    known = np.array([arm == "popular" for arm in batch.arm])
    np.testing.assert_array_equal(batch.of_chosen(batch.pmf)[known], batch.propensity[known])
    assert np.isnan(batch.pmf[~known]).all()


def test_what_is_appended_while_it_is_read_is_left_for_the_next_time() -> None:
    growing = list(RECORDS)
    source = LogSource(lambda: lines(growing), LIKES)
    before = len(gathered(source))
    growing += [
        msgspec.structs.replace(r, page_id=f"{r.page_id}-again") if isinstance(r, PageRecord) else r
        for r in RECORDS
    ]
    assert len(gathered(source)) == before == len(source)


def test_draws_of_pages_without_a_row_are_judged_too() -> None:
    """Pages that nobody answered have no rows; whether they have may depend on their cards."""
    silent = [
        r
        for r in sorted(RECORDS, key=lambda r: r.at_ms)
        if not (isinstance(r, FeedbackRecord) and r.decision_id.rpartition(":")[0].endswith("-2"))
    ]
    source = LogSource(lambda: lines(silent), LIKES)
    batch = gathered(source)
    pages = [r for r in RECORDS if isinstance(r, PageRecord)]
    # A card is over when the next one is seen, or its user leaves.
    heard = [
        (r.user, split_decision_id(r.decision_id)[0])
        for r in silent
        if isinstance(r, FeedbackRecord) and r.kind in ("impression", "leave")
    ]
    last = {user: k for k, (user, _) in enumerate(heard)}
    answered = {page for k, (user, page) in enumerate(heard) if k < last[user]}
    assert len(pages) // 2 < len(answered) < len(pages)
    assert len(batch.pages) == len(answered)
    assert len(batch.draws.action) == sum(len(page.drawn) for page in pages)
    assert source.coverage.drawn == len(batch.draws.action)
    (of_arm,) = LogSource(lambda: lines(silent), LIKES, arm="popular").batches()
    assert len(of_arm.draws.action) == len(batch.draws.action) // 2


def test_an_empty_log_has_no_batches() -> None:
    source = LogSource(lambda: iter(()), LIKES)
    assert (len(source), list(source.batches()), source.users) == (0, [], {})
    assert source.coverage == CoverageCounts(0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"feature_schema": 99},
            r"log line \d+: expected .* schema 4 or \d+, got 99 in page uniformp0-0",
        ),
        ({"blocks": b"unknown!" * 12}, "page uniformp0-0 has candidate .* features are not in"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_refused(changes: dict[str, object], message: str) -> None:
    def changed(record: Record) -> Record:
        return (
            msgspec.structs.replace(record, **changes) if isinstance(record, PageRecord) else record
        )

    wrong = [changed(record) for record in RECORDS]
    with pytest.raises(ValueError, match=message):
        list(LogSource(lambda: lines(wrong), LIKES).batches())


class Stored:
    """Finds pages in payloads, as a store does on its disk."""

    def __init__(self, payloads: list[bytes]) -> None:
        self._of: dict[PageId, list[bytes]] = {}
        for payload in payloads:
            record = decode_record(payload)
            if isinstance(record, PageRecord):
                self._of[record.page_id] = [payload]
            elif isinstance(record, FeedbackRecord):
                self._of[split_decision_id(record.decision_id)[0]].append(payload)

    def history(self, event: FeedbackRecord) -> PageHistory | None:
        kept = KeptPast()
        for record in map(decode_record, self._of[split_decision_id(event.decision_id)[0]]):
            if record == event:
                return kept.history(event)
            kept.keep(record)
        return None


@pytest.mark.slow
def test_pages_are_let_go_when_nothing_of_them_is_open_any_more() -> None:
    payloads = [encode_record(record) for record in make_log(n_users=150)]
    n_pages = 900
    alive: list[int] = []

    def read_again() -> Iterator[LogLine]:
        for i, payload in enumerate(payloads):
            if i % 500 == 0:
                alive.append(sum(type(o) is PageRecord for o in gc.get_objects()))
            yield LogLine(i + 1, decode_record(payload))

    before = sum(type(o) is PageRecord for o in gc.get_objects())
    source = LogSource(read_again, LIKES, past=Stored(payloads))
    assert len(source) > 1_500
    assert max(alive) - before < n_pages / 2
