from pathlib import Path

import numpy as np
import pytest
from histories import config_of, make_history
from kuairands import write_kuairand

from env.world.impressions import Sessions
from serve.errors import BadFile, JobError
from serve.importers import kuairand
from serve.jobs.fit_world import read_log


def test_a_folder_and_its_log_alone_are_the_same_log(tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)
    whole, alone = read_log(folder), read_log(folder / "log_standard_pure.csv")
    for name in ("user", "item", "at_ms", "play_s"):
        assert np.array_equal(getattr(whole.impressions, name), getattr(alone.impressions, name))
    assert [item.item_id for item in whole.items] == [item.item_id for item in alone.items]
    assert alone.has_vectors
    assert alone.midnight_ms == kuairand.LAST_DAY_MS


def test_a_log_without_tables_knows_ids_and_durations(tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)
    for table in folder.glob("*_features_*"):
        table.unlink()
    log = read_log(folder / "log_standard_pure.csv")
    assert not log.has_vectors
    assert {item.duration_s for item in log.items} == {20.0}
    assert len(log.users) == len(set(log.impressions.user.tolist()))
    assert log.impressions.item.max() == len(log.items) - 1


def test_an_id_that_the_tables_do_not_know_is_refused(tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)
    table = folder / "user_features_pure.csv"
    table.write_text("\n".join([*table.read_text().splitlines()[:5], ""]))
    with pytest.raises(BadFile, match="expected a known id"):
        read_log(folder / "log_standard_pure.csv")


def test_our_own_log_is_read_card_by_card(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make_history(config_of(folder), n_users=12, rounds=range(8))
    log = read_log(folder)
    shown = log.impressions
    assert len(shown) > 100
    assert len(log.users) == 12
    assert shown.item.max() < len(log.items)
    assert {log.items[k].title for k in np.unique(shown.item).tolist()} != {""}
    assert np.all(shown.play_s >= 0.0)
    assert shown.like.any()
    cards = Sessions.of(shown).shown
    same = np.diff(cards.user) == 0
    over_ms = cards.at_ms + np.floor(1000.0 * cards.play_s)
    of_a_page = same & (np.diff(cards.at_ms) < 15_000)
    assert np.count_nonzero(of_a_page) > 50
    assert np.all((cards.at_ms[1:] >= over_ms[:-1])[of_a_page])


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"nextswipe\.db"):
        read_log(tmp_path)
