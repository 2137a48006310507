"""Datasets hold exactly the decisions that can be evaluated, and refuse logs that lie."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from worlds import LIKES, World, lines

from env.feedback import Signal, Signals
from env.records import Drawn, FeedbackRecord, LogLine, PageRecord, Record
from env.reward import Reward, is_censored
from env.vocabulary import Page
from policies.baselines import UniformPolicy, mixture_policy
from replay.join import dataset, exported
from replay.join.dataset import Dataset
from replay.join.rows import FLAGS, CoverageCounts
from replay.join.whole import join_all


def make_log(seed: int = 7) -> tuple[dict[str, Page], list[Record]]:
    """Two arms of 20 users with 3 pages each."""
    world = World(rng=np.random.default_rng(seed))
    pages: dict[str, Page] = {}
    records = list(world.items())
    for policy, arm in ((UniformPolicy(), "uniform"), (mixture_policy(0.3), "popular")):
        for page, its_records in world.pages(policy, n_users=20, pages_each=3, eps=0.1, arm=arm):
            pages[page.context.page_id] = page
            records += its_records
    return pages, records


PAGES, RECORDS = make_log()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset.read(lines(RECORDS), LIKES)


def assert_equal(got: Dataset, expected: Dataset) -> None:
    everything = np.arange(len(expected))
    assert list(got.interactions(everything)) == list(expected.interactions(everything))
    assert got.coverage == expected.coverage
    assert got.reward_version == expected.reward_version
    users = [[d.users[code] for code in d.user] for d in (got, expected)]
    assert users[0] == users[1]


def test_a_row_is_a_decision_that_was_seen_and_whose_end_is_known(data: Dataset) -> None:
    closed = list(join_all(lines(RECORDS), LIKES))
    expected = {i.decision_id: i for i in closed if not is_censored(i.feedback, i.duration_s)}
    rows = [data.interaction(row) for row in range(len(data))]
    assert {i.decision_id: i for i in rows} == expected
    assert len(rows) == len(expected)
    n_drawn = sum(len(page.decisions) for page in PAGES.values())
    assert data.coverage == CoverageCounts(n_drawn, len(closed), len(closed) - len(expected))
    assert n_drawn > len(closed) > len(expected) > 0


def test_columns_are_those_of_the_pages_that_were_drawn(data: Dataset) -> None:
    for row in range(len(data)):
        page = PAGES[data.pages[data.page[row]].page_id]
        decision = page.decisions[data.slot[row]]
        assert data.decision(row) == decision.decision_id
        assert data.action[row] == decision.action
        assert data.propensity[row] == decision.propensity
        assert data.users[data.user[row]] == page.context.user
        assert data.reward[row] == data.flags[row, FLAGS.index("like")]


def test_pages_come_back_to_the_last_bit_with_their_rows_together(data: Dataset) -> None:
    n_rows = 0
    for page, rows in data.by_page():
        logged = PAGES[page.context.page_id]
        assert page.decisions == logged.decisions
        assert page.eps == logged.eps
        np.testing.assert_array_equal(
            page.context.features.actions, logged.context.features.actions
        )
        np.testing.assert_array_equal(page.context.features.shared, logged.context.features.shared)
        for mine, theirs in zip(page.slots, logged.slots, strict=True):
            np.testing.assert_array_equal(mine.mask, theirs.mask)
            np.testing.assert_array_equal(mine.eligible, theirs.eligible)
        assert (np.diff(data.slot[rows]) > 0).all()
        np.testing.assert_array_equal(rows, np.arange(n_rows, n_rows + len(rows)))
        n_rows += len(rows)
    assert n_rows == len(data)


def test_pages_can_be_chosen_while_a_log_is_read(data: Dataset) -> None:
    half = dataset.read(lines(RECORDS), LIKES, where=lambda page: page.arm == "uniform")
    assert {page.arm for page in half.pages} == {"uniform"}
    uniform = np.array([data.pages[place].arm == "uniform" for place in data.page])
    assert len(half) == np.count_nonzero(uniform)
    assert half.coverage.drawn == sum(len(p.decisions) for p in PAGES.values()) // 2


def test_rows_can_be_selected(data: Dataset) -> None:
    liked = data.select(data.reward > 0.0)
    assert len(liked) == np.count_nonzero(data.reward > 0.0)
    assert (liked.reward == 1.0).all()


def test_a_log_read_twice_over_gives_each_decision_once(data: Dataset) -> None:
    """A record that was appended twice, as the log itself would refuse it."""
    page = next(r for r in RECORDS if isinstance(r, PageRecord))
    again = dataset.read(lines([*RECORDS[: RECORDS.index(page) + 1], page]), LIKES)
    assert again.coverage.drawn == len(page.drawn)
    assert len(again) == 0


def test_a_page_keeps_neither_cards_nor_its_own_copies_of_ids(data: Dataset) -> None:
    first: dict[str, str] = {}
    for page in data.pages:
        assert page.cards == ()
        assert page.reasons == ()
        for item_id in page.candidates:
            assert first.setdefault(item_id, item_id) is item_id


def test_an_empty_log_is_an_empty_dataset() -> None:
    empty = dataset.read(iter([]), LIKES)
    assert len(empty) == 0
    assert list(empty.by_page()) == []
    assert empty.coverage == CoverageCounts(0, 0, 0)


# --- Parquet --------------------------------------------------------------------------------------


def test_a_dataset_written_as_parquet_comes_back_the_same(data: Dataset, tmp_path: Path) -> None:
    exported.save(data, tmp_path / "log")
    back = exported.load(tmp_path / "log")
    assert_equal(back, data)
    for (mine, _), (theirs, _) in zip(back.by_page(), data.by_page(), strict=True):
        np.testing.assert_array_equal(
            mine.context.features.actions, theirs.context.features.actions
        )


def test_own_signals_have_a_column_each_and_come_back(tmp_path: Path) -> None:
    own = Signals(
        {"gift": Signal("money", currency="EUR", most=9.0, weight=0.5), "cheer": Signal()}
    )
    reward = Reward.weighing(own, valid_play=0.5, long_view=0.5, version=1)
    records = list[Record]()
    for record in RECORDS:
        records.append(record)
        if isinstance(record, FeedbackRecord) and record.kind == "impression":
            which = int(record.decision_id[-1])
            more = {"gift": float(which), "cheer": 0.0, "save": 0.0}
            records += (
                replace(record, event_id=f"{kind}{record.event_id}", kind=kind, value=value)
                for kind, value in list(more.items())[: which % 4]
            )
    told = dataset.read(lines(records), reward)
    exported.save(told, tmp_path)
    back = exported.load(tmp_path)
    assert_equal(back, told)
    assert back.signals == told.signals
    table = pq.read_table(tmp_path / "decisions.parquet").to_pylist()
    gifts = [row["gift"] for row in table]
    assert None in gifts
    assert any(gifts)
    for row in table:
        which = int(row["decision_id"][-1]) % 4
        assert (row["gift"] is None, row["cheer"], row["save"]) == (which < 1, which > 1, which > 2)


def test_an_export_from_before_there_were_own_signals_can_be_read(
    data: Dataset, tmp_path: Path
) -> None:
    exported.save(data, tmp_path)
    file = tmp_path / "decisions.parquet"
    table = pq.read_table(file)
    coverage, version, _ = msgspec.json.decode(table.schema.metadata[b"nextswipe"])
    old = table.drop_columns([tally.name for tally in data.signals]).replace_schema_metadata(
        {b"nextswipe": msgspec.json.encode([coverage, version])}
    )
    pq.write_table(old, file)
    assert_equal(exported.load(tmp_path), data)


def test_a_part_of_a_dataset_is_written_with_its_own_pages_only(
    data: Dataset, tmp_path: Path
) -> None:
    part = data.select(np.flatnonzero(data.page < 5))
    exported.save(part, tmp_path)
    back = exported.load(tmp_path)
    assert_equal(back, part)
    assert len(back.pages) == 5


def test_an_empty_dataset_comes_back_empty(data: Dataset, tmp_path: Path) -> None:
    exported.save(data.select(data.reward > 99.0), tmp_path)
    assert len(exported.load(tmp_path)) == 0


def test_decisions_are_plain_columns_for_everybody_else(data: Dataset, tmp_path: Path) -> None:
    exported.save(data, tmp_path)
    table = pq.read_table(tmp_path / "decisions.parquet")
    assert table.num_rows == len(data)
    assert set(table["country"].to_pylist()) == {"MY"}
    assert table["reward"].to_pylist() == data.reward.tolist()
    arms = Counter(table["arm"].to_pylist())
    assert arms == Counter(data.pages[place].arm for place in data.page)


def test_decisions_that_their_page_did_not_draw_are_refused(data: Dataset, tmp_path: Path) -> None:
    exported.save(data, tmp_path)
    file = tmp_path / "decisions.parquet"
    table = pq.read_table(file)
    column = table.schema.get_field_index("propensity")
    doubled = table.set_column(column, "propensity", [(data.propensity * 0.5).tolist()])
    pq.write_table(doubled, file)
    with pytest.raises(
        ValueError, match=r"as the page drew them, got .* in decision uniformp0-0:0"
    ):
        exported.load(tmp_path)


def test_a_file_that_a_user_else_wrote_is_refused(data: Dataset, tmp_path: Path) -> None:
    exported.save(data, tmp_path)
    table = pq.read_table(tmp_path / "decisions.parquet").replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "decisions.parquet")
    with pytest.raises(ValueError, match="expected a dataset that nextswipe wrote"):
        exported.load(tmp_path)


# --- what is refused ------------------------------------------------------------------------------


def changed(page: PageRecord, changes: dict[str, object]) -> PageRecord:
    """Return a page with other fields, those of a draw in its first decision."""
    if changes.keys() <= {"slot", "action", "propensity"}:
        first = msgspec.structs.asdict(page.drawn[0]) | changes
        return replace(page, drawn=(Drawn(**first), *page.drawn[1:]))
    return replace(page, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": 0.0}, r"propensity must be in \(0, 1\], got 0.0 in decision uniformp0-0:0"),
        ({"propensity": 1.5}, r"propensity must be in \(0, 1\], got 1.5 in decision uniformp0-0:0"),
        ({"propensity": -0.1}, r"got -0.1 in decision uniformp0-0:0"),
        ({"propensity": float("nan")}, r"got nan in decision uniformp0-0:0"),
        ({"action": 12}, r"one of 12 candidates, got 12 in decision uniformp0-0:0"),
        ({"action": -1}, r"one of 12 candidates, got -1 in decision uniformp0-0:0"),
        ({"slot": 4}, r"slot must be one of 4, got 4 in decision uniformp0-0:4"),
        ({"slot": 3, "action": 1}, r"on the mask of its slot, got 1 in decision uniformp0-0:3"),
        ({"feature_schema": 99}, r"schema 4 or \d+, got 99 in page uniformp0-0"),
        ({"blocks": b"unknown!" * 12}, r"page uniformp0-0 has candidate .* features are not in"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_refused_with_the_decision_that_shows_it(
    changes: dict[str, object], message: str
) -> None:
    wrong = [changed(r, changes) if isinstance(r, PageRecord) else r for r in RECORDS]
    with pytest.raises(ValueError, match=message):
        dataset.read(lines(wrong), LIKES)


def test_a_log_without_its_beginning_is_refused() -> None:
    without_items = [r for r in RECORDS if not r.__class__.__name__.startswith("Item")]
    with pytest.raises(ValueError, match="is it read from its beginning"):
        dataset.read(lines(without_items), LIKES)


def test_a_reward_that_is_not_finite_is_refused_with_its_decision() -> None:
    with pytest.raises(ValueError, match=r"reward must be finite, got (inf|nan) in decision unif"):
        dataset.read(lines(RECORDS), Reward(like=float("inf")))


def test_lines_are_read_once_so_that_a_log_need_not_fit_in_memory() -> None:
    once = iter([LogLine(1, RECORDS[0])])
    dataset.read(once, LIKES)
    assert list(once) == []
