"""A short run of the study: its parts find what is there, and say what was skipped."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.config import Config
from tests.studies.collaborative.collaborative import CollaborativeSize, run_collaborative
from tests.studies.collaborative.history import FILE, HistorySize, run_history
from tests.studies.collaborative.reward import RewardSize, run_reward
from tests.studies.collaborative.tastes import TastesSize, run_tastes
from tests.studies.served_world.world import WorldSize

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand_pure"
TASTES = TastesSize(users=120, cards=60, items=120, fit_every=1_200, newcomers=100)
REWARD = RewardSize(
    seeds=2,
    cards=1_500,
    fit_every=400,
    world=WorldSize(users=60, shard=20, page=5, pages_a_visit=2, cards_a_day=4_000, items=300),
)


def nobody(*_: object) -> None:
    """Tell nobody."""


def test_latent_tastes_are_found_in_two_answers_and_not_without_item_factors() -> None:
    result = run_tastes(TASTES, seed=1, config=Config(), advance=nobody)
    assert result.own_taste_after_5 >= 0.9
    assert result.own_taste_after_2 >= 0.75
    assert result.own_taste_at_end >= 0.9
    # Of 2,400 cards that nothing tells apart, four standard errors about a half.
    assert result.own_taste_without == pytest.approx(0.5, abs=4 * 0.5 / 2_400**0.5 + 0.05)


def test_the_reward_is_the_same_however_many_processes_share_the_work() -> None:
    config = Config()
    one = run_reward(REWARD, seed=1, config=config, advance=nobody, processes=1)
    two = run_reward(REWARD, seed=1, config=config, advance=nobody, processes=2)
    assert one == two
    assert one.uplift_low < one.uplift < one.uplift_high
    assert one.share_of_source > 0.0


def test_without_a_folder_the_history_is_skipped_and_said_to_be(tmp_path: Path) -> None:
    size = CollaborativeSize(
        tastes=msgspec.structs.replace(TASTES, users=20, cards=20, newcomers=10), reward=REWARD
    )
    for folder, said in ((None, "no KuaiRand folder was given"), (tmp_path, f"has no {FILE}")):
        result = run_collaborative(
            size, seed=1, config=Config(), kuairand=folder, advance=nobody, processes=1
        )
        assert said in result.skipped
        assert result.history is None
        assert result.recall_ratio_item_item is None
        assert result.reward != result.reward_without_vectors


def test_hidden_plays_of_a_history_are_found(tmp_path: Path) -> None:
    """Users watch the items of their own third in turn, each beginning elsewhere."""
    rows = [
        {"user_id": user, "watch_seq": [3 * ((user + k) % 30) + user % 3 for k in range(20)]}
        for user in range(150)
    ]
    blank: dict[str, list[int]] = {"like_seq": [], "long_watch_seq": []}
    schema = pa.schema(
        [
            ("user_id", pa.int64()),
            *((name, pa.list_(pa.int64())) for name in ("watch_seq", "like_seq", "long_watch_seq")),
        ]
    )
    table = pa.Table.from_pylist([row | blank for row in rows], schema=schema)
    pq.write_table(table, tmp_path / FILE)
    result = run_history(tmp_path, HistorySize(users=50), seed=1, config=Config())
    assert (result.users, result.recall) == (50, 1.0), "there are 90 items"


@pytest.mark.skipif(
    not (KUAIRAND / FILE).is_file(), reason=f"expected KuaiRand's history at {KUAIRAND / FILE}"
)
def test_the_source_beats_popularity_and_item_item_counts_on_real_history() -> None:
    result = run_history(KUAIRAND, HistorySize(users=1_000), seed=1, config=Config())
    assert result.recall_ratio_popularity >= 1.5
    assert result.recall_ratio_item_item >= 1.0
