"""Imports: all or nothing, and nothing the second time."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from histories import START_MS, catalogue, config_of
from kuairands import N_IMPRESSIONS, N_ITEMS, N_USERS, write_kuairand

from env.records import ItemRecord, UserRecord
from env.vocabulary import Item, ItemId, Profile, UserId
from serve.config import Config
from serve.errors import BadFile
from serve.importers import items, kuairand
from serve.jobs.import_data import (
    N_GENERATED_PEOPLE,
    ImportCounts,
    Imported,
    import_items,
    import_kuairand,
    import_lines,
    import_users,
    load_world,
)
from serve.jobs.imported_world import ImportedWorld
from serve.store.open import open_store

PEOPLE = [(UserId(f"p{k}"), Profile(country="GB", cohort="keen")) for k in range(5)]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path / "data")


def test_imported_items_are_in_the_log_and_in_the_catalogue(config: Config) -> None:
    told: list[int] = []
    assert import_items(config, catalogue(), START_MS, told.append) == ImportCounts(new=30)
    assert sum(told) == 30
    with open_store(config, lambda: 0) as store, store.view() as view:
        assert view.items() == catalogue()
        records = [line.record for line in store.log.read()]
    assert [r.item for r in records if isinstance(r, ItemRecord)] == catalogue()


def test_what_is_imported_makes_no_debut(config: Config) -> None:
    new = [Item(ItemId("undated")), Item(ItemId("dated"), published_ms=START_MS)]
    import_items(config, [*catalogue(), *new], START_MS)
    with open_store(config, lambda: 0) as store:
        records = [line.record for line in store.log.read()]
    assert [record.debut for record in records if isinstance(record, ItemRecord)] == [False] * 32


def test_a_second_import_appends_nothing(config: Config) -> None:
    import_items(config, catalogue(), START_MS)
    import_users(config, PEOPLE, START_MS)
    before = _last_offset(config)
    assert import_items(config, catalogue(), START_MS + 1) == ImportCounts(unchanged=30)
    assert import_users(config, PEOPLE, START_MS + 1) == ImportCounts(unchanged=5)
    assert _last_offset(config) == before


def test_what_changed_is_appended(config: Config) -> None:
    import_items(config, catalogue(), START_MS)
    first, *others = catalogue()
    changed = [
        msgspec.structs.replace(first, title="Recut"),
        *others,
        Item(ItemId("new"), title="New"),
    ]
    assert import_items(config, changed, START_MS + 1) == ImportCounts(
        new=1, changed=1, unchanged=29
    )


def test_imported_users_are_known_by_pseudonym_and_profile(config: Config) -> None:
    assert import_users(config, PEOPLE, START_MS) == ImportCounts(new=5)
    moved = [(PEOPLE[0][0], Profile(country="MY")), *PEOPLE[1:]]
    assert import_users(config, moved, START_MS) == ImportCounts(changed=1, unchanged=4)
    with open_store(config, lambda: 0) as store, store.view() as view:
        user = view.user("p0")
        records = [line.record for line in store.log.read()]
    assert user is not None
    assert user.state.profile == Profile(country="MY", registered_ms=START_MS)
    users = [record for record in records if isinstance(record, UserRecord)]
    assert len(users) == 6
    assert users[-1].user == user.user != "p0"


def test_an_import_that_fails_half_way_leaves_nothing(config: Config) -> None:
    def fail_at_the_third(n: int) -> None:
        told.append(n)
        if len(told) == 4:
            raise RuntimeError("power cut")

    told: list[int] = []
    with pytest.raises(RuntimeError, match="power cut"):
        import_users(config, PEOPLE, START_MS, fail_at_the_third)
    assert _last_offset(config) == 0
    assert import_users(config, PEOPLE, START_MS) == ImportCounts(new=5)


def test_a_vector_of_another_length_is_refused_with_its_line(
    config: Config, tmp_path: Path
) -> None:
    def put(name: str, text: str) -> ImportCounts:
        file = tmp_path / name
        file.write_text(f"item_id,vector\n{text}")
        return import_lines(config, file, items.read(file), START_MS)

    assert put("a.csv", "a,1|0|0\nb,\n") == ImportCounts(new=2)
    message = r"b\.csv, line 3, column 'vector': expected 3 numbers as in the catalogue's vectors, "
    with pytest.raises(BadFile, match=message + "got 2"):
        put("b.csv", "c,\nd,1|0\n")
    assert _last_offset(config) == 2
    assert put("c.csv", "a,1|0\nb,0|1\n") == ImportCounts(changed=2), (
        "all vectors are replaced at once"
    )


def test_a_kuairand_folder_is_imported_once(config: Config, tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)

    imported = import_kuairand(config, kuairand.read(folder), START_MS)

    assert imported.items == ImportCounts(new=N_ITEMS)
    assert str(imported) == (
        f"{N_ITEMS} items, {N_USERS} users, {N_IMPRESSIONS} impressions "
        f"(new {N_ITEMS + N_USERS + N_IMPRESSIONS}, unchanged 0)"
    )
    before = _files(config)
    again = import_kuairand(config, kuairand.read(folder), START_MS + 1)
    assert again == Imported(
        ImportCounts(unchanged=N_ITEMS),
        ImportCounts(unchanged=N_USERS),
        ImportCounts(unchanged=N_IMPRESSIONS),
        imported.response_auc,
        imported.tail,
    )
    assert _files(config) == before
    assert _last_offset(config) == N_ITEMS + N_USERS


def test_the_imported_world_is_the_fitted_one(config: Config, tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)
    imported = import_kuairand(config, kuairand.read(folder), START_MS)
    data = kuairand.read(folder)

    world, users = load_world(config, seed=3)

    assert world.item_ids == tuple(item.item_id for item in data.items)
    assert users == data.users
    assert set(world.model.items.ids) <= set(world.item_ids)
    assert len(world.model.items.ids) > 0
    with open_store(config, lambda: 0) as store, store.view() as view:
        about = ImportedWorld(Path(config.data.folder)).about(view)
    assert about is not None
    assert (about.n_impressions, about.response_auc) == (N_IMPRESSIONS, imported.response_auc)
    with np.load(next(Path(config.data.folder).rglob("impressions.npz"))) as kept:
        assert len(kept["play_s"]) == N_IMPRESSIONS
        assert kept["item_ids"].tolist() == list(world.item_ids)


def test_another_import_replaces_the_world(config: Config, tmp_path: Path) -> None:
    import_kuairand(config, kuairand.read(write_kuairand(tmp_path)), START_MS)
    second = import_kuairand(config, kuairand.read(write_kuairand(tmp_path, seed=2)), START_MS)
    assert second.impressions == ImportCounts(new=N_IMPRESSIONS)
    assert len([path for path in (tmp_path / "data" / "imports").iterdir() if path.is_dir()]) == 1


def test_items_that_came_by_another_way_are_in_the_imported_world(
    config: Config, tmp_path: Path
) -> None:
    import_kuairand(config, kuairand.read(write_kuairand(tmp_path)), START_MS)
    import_items(config, catalogue(), START_MS)
    world, _ = load_world(config, seed=3)
    assert world.index_of(catalogue()[0].item_id) >= 0


def test_without_impressions_the_world_is_the_generated_one(config: Config) -> None:
    import_items(config, catalogue(), START_MS)
    world, users = load_world(config, seed=3)
    assert world.item_ids == tuple(item.item_id for item in catalogue())
    assert len(users) == N_GENERATED_PEOPLE
    assert load_world(config, seed=3)[1] == users


@pytest.mark.parametrize("n", [0, 50])
def test_impressions_that_no_world_can_be_fitted_to_are_refused(
    config: Config, tmp_path: Path, n: int
) -> None:
    with pytest.raises(BadFile, match="no world can be fitted to its impressions: expected at"):
        import_kuairand(config, kuairand.read(write_kuairand(tmp_path, n=n)), START_MS)
    assert not (tmp_path / "data").exists()


def test_a_bad_file_leaves_everything_as_it_was(config: Config, tmp_path: Path) -> None:
    folder = write_kuairand(tmp_path)
    users = folder / "user_features_pure.csv"
    users.write_text(users.read_text().replace("full_active,0,0,7", "full_active,0,0,many"))
    with pytest.raises(BadFile, match=r"line 9, column 'register_days'"):
        import_kuairand(config, kuairand.read(folder), START_MS)
    assert not (tmp_path / "data").exists()


def _last_offset(config: Config) -> int:
    with open_store(config, lambda: 0) as store:
        return store.log.last_offset()


def _files(config: Config) -> dict[Path, bytes]:
    imports = Path(config.data.folder) / "imports"
    return {path: path.read_bytes() for path in imports.rglob("*") if path.is_file()}
