import itertools
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.snapshots import (
    MANIFEST,
    Generations,
    Manifest,
    PartDigest,
    Pin,
    SnapshotCorruption,
    SnapshotStore,
)

PARTS = {"policy.bin": bytes(range(256)), "join": b"open decisions", "empty": b""}


def manifest_of(version: int) -> Manifest:
    return Manifest(
        version=version,
        epoch=3,
        offsets=(120, 44),
        feature_schema=1,
        reward_version=1,
        args={"bits": 18, "explorer": {"kind": "squarecb", "gamma": 200.0}},
    )


def rewrite(folder: Path, **changed: object) -> None:
    """Write another manifest in the place of the one that is there."""
    path = folder / MANIFEST
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **changed)))


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", keep=3)


@pytest.fixture
def generation(store: SnapshotStore, tmp_path: Path) -> Path:
    store.publish(manifest_of(7), PARTS)
    (folder,) = (tmp_path / "snapshots").iterdir()
    return folder


def test_what_was_published_comes_back(store: SnapshotStore) -> None:
    published = store.publish(manifest_of(1), PARTS)
    snapshot = store.load(1)
    assert snapshot.manifest == published == store.manifest(1)
    assert dict(snapshot.parts) == PARTS
    assert store.load_part(1, "join") == PARTS["join"]
    assert published.offsets == (120, 44)
    assert {name: part.size for name, part in published.parts.items()} == {
        "policy.bin": 256,
        "join": 14,
        "empty": 0,
    }


def test_another_store_on_the_same_folder_sees_the_same(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).publish(manifest_of(1), PARTS)
    assert dict(SnapshotStore(tmp_path).load(1).parts) == PARTS


def test_only_the_newest_generations_are_kept(store: SnapshotStore) -> None:
    for version in (1, 2, 9, 10, 11):
        store.publish(manifest_of(version), PARTS)
    assert store.versions() == [9, 10, 11]
    with pytest.raises(FileNotFoundError, match="no snapshot of version 2"):
        store.load(2)


def test_the_newest_that_has_a_lasting_part_is_kept_as_well(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, keep=2, lasting="join")
    for version in (1, 2, 3, 4, 5):
        parts = PARTS if version in (1, 2) else {"policy.bin": b"a"}
        store.publish(manifest_of(version), parts)
    assert store.versions() == [2, 4, 5]
    assert store.newest_with("join") == 2
    assert store.newest_with("policy.bin") == 5
    assert store.newest_with("other") == 0


def test_what_is_to_be_durable_is_flushed_whole_and_nothing_else_is(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def fsync(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    store.publish(manifest_of(1), PARTS, durable=False)
    assert flushed == []
    assert dict(store.load(1).parts) == PARTS
    store.publish(manifest_of(2), PARTS)
    *files, aside, folder = flushed
    assert sorted(files) == sorted([*PARTS, MANIFEST])
    assert aside.startswith("unfinished-"), "before it is renamed"
    assert folder == "snapshots"


def test_versions_only_move_up(store: SnapshotStore, generation: Path) -> None:
    before = sorted((path.name, path.read_bytes()) for path in generation.iterdir())
    for version in (7, 6):
        with pytest.raises(FileExistsError, match=f"expected a version above 7, got {version}"):
            store.publish(manifest_of(version), {"policy.bin": b"another"})
    assert sorted((path.name, path.read_bytes()) for path in generation.iterdir()) == before
    assert len(list(generation.parent.iterdir())) == 1


def test_what_a_killed_writer_left_is_no_generation_and_goes_with_the_next(
    store: SnapshotStore, generation: Path
) -> None:
    left = generation.parent / "unfinished-0123"
    shutil.copytree(generation, left)
    an_hour_ago = generation.stat().st_mtime - 3601
    os.utime(left, (an_hour_ago, an_hour_ago))
    assert store.versions() == [7]
    store.publish(manifest_of(8), PARTS)
    assert store.versions() == [7, 8]
    assert not left.exists()


def test_what_another_learner_is_writing_is_left_to_it(
    store: SnapshotStore, generation: Path
) -> None:
    writing = generation.parent / "unfinished-0123"
    writing.mkdir()
    for version in (8, 9, 10, 11):
        store.publish(manifest_of(version), PARTS)
    assert store.versions() == [9, 10, 11]
    assert [path for path in generation.parent.iterdir() if path.name[0] != "v"] == [writing]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_was_truncated_is_not_loaded(
    name: str, store: SnapshotStore, generation: Path
) -> None:
    path = generation / name
    path.write_bytes(path.read_bytes()[:-1] or b"x")
    with pytest.raises(SnapshotCorruption, match=f"{name}: expected .* bytes"):
        store.load(7)


def test_any_flipped_bit_of_a_part_is_found(store: SnapshotStore, generation: Path) -> None:
    path = generation / "join"
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        flipped = int.from_bytes(sound, "little") ^ (1 << bit)
        path.write_bytes(flipped.to_bytes(len(sound), "little"))
        with pytest.raises(SnapshotCorruption, match="its sha256 is not the manifest's"):
            store.load(7)
    path.write_bytes(sound)
    assert store.load(7).parts["join"] == sound


def test_a_part_that_is_missing_is_corruption_not_absence(
    store: SnapshotStore, generation: Path
) -> None:
    (generation / "join").unlink()
    with pytest.raises(SnapshotCorruption, match="join"):
        store.load(7)


def test_a_part_that_is_a_link_is_not_followed(
    store: SnapshotStore, generation: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (generation / "join").rename(elsewhere)
    (generation / "join").symlink_to(elsewhere)
    with pytest.raises(SnapshotCorruption, match="join"):
        store.load(7)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"version":7}', b"null"]
)
def test_a_manifest_that_cannot_be_read_is_corruption(
    content: bytes, store: SnapshotStore, generation: Path
) -> None:
    (generation / MANIFEST).write_bytes(content)
    with pytest.raises(SnapshotCorruption, match=MANIFEST):
        store.load(7)


def test_a_manifest_that_is_missing_is_corruption(store: SnapshotStore, generation: Path) -> None:
    (generation / MANIFEST).unlink()
    with pytest.raises(SnapshotCorruption, match=MANIFEST):
        store.load(7)


@pytest.mark.parametrize("changed", [{"version": 8}, {"format_version": 2}])
def test_a_manifest_of_another_version_or_a_newer_format_is_refused(
    changed: dict[str, int], store: SnapshotStore, generation: Path
) -> None:
    rewrite(generation, **changed)
    with pytest.raises(SnapshotCorruption, match="expected version 7 in a format up to 1"):
        store.load(7)


BAD_NAMES = ["../secret", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "A", "a..b", "a\n", MANIFEST]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_manifest_cannot_name_a_file_outside_its_folder(
    name: str, store: SnapshotStore, generation: Path
) -> None:
    (generation.parent / "secret").write_bytes(b"secret")
    rewrite(generation, parts={name: PartDigest("0" * 64, 6)})
    with pytest.raises(SnapshotCorruption, match="part name not allowed"):
        store.load(7)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_part_s_name_that_is_not_allowed_is_refused_before_anything_is_written(
    name: str, store: SnapshotStore, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected a part's name"):
        store.publish(manifest_of(1), {"good": b"1", name: b"2"})
    assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize("version", [0, -1, 10**12])
def test_a_version_out_of_range_is_refused(version: int, store: SnapshotStore) -> None:
    with pytest.raises(ValueError, match="version must be from 1"):
        store.publish(manifest_of(version), PARTS)


def test_a_publish_that_fails_leaves_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        store.publish(manifest_of(1), {"good": b"1", "x" * 300: b"2"})
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_only_parts_that_the_manifest_names_are_read(
    store: SnapshotStore, generation: Path
) -> None:
    (generation / "stray").write_bytes(b"stray")
    os.mkfifo(generation / "pipe")
    assert dict(store.load(7).parts) == PARTS
    with pytest.raises(KeyError, match="stray"):
        store.load_part(7, "stray")


def test_at_least_one_generation_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        SnapshotStore(tmp_path, keep=0)


HOUR_S, DAY_S = 3_600.0, 86_400.0


def test_generations_thin_out_to_the_last_of_each_hour_and_of_each_day() -> None:
    kept = Generations(last=3, hourly=4, daily=5, disk_mb=1e6)
    every_10_min = {k: 600.0 * k for k in range(1, 6 * 24 * 10)}  # ten days
    versions = kept.kept(every_10_min, dict.fromkeys(every_10_min, 1))
    newest = max(every_10_min)
    assert {newest, newest - 1, newest - 2} <= versions
    by_hour = {version for version in versions if version >= newest - 6 * 4}
    assert {int(every_10_min[v] // HOUR_S) for v in by_hour} == {236, 237, 238, 239}
    days = sorted({int(every_10_min[v] // DAY_S) for v in versions})
    assert days == [5, 6, 7, 8, 9]
    for day in days[:-1]:  # the last one of that day
        assert max(v for v in versions if every_10_min[v] // DAY_S == day) == 144 * (day + 1) - 1
    assert len(versions) == 3 + 3 + 4


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(1.0, 50_000.0), min_size=1, max_size=60),
    disk_mb=st.floats(0.5, 40.0),
    pinned=st.sets(st.integers(1, 60), max_size=3),
    last=st.integers(1, 6),
)
def test_generations_fit_on_the_disk_and_drop_the_oldest_first(
    gaps: list[float], disk_mb: float, pinned: set[int], last: int
) -> None:
    kept = Generations(last=last, hourly=10, daily=10, disk_mb=disk_mb)
    written = dict(enumerate(itertools.accumulate(gaps), start=1))
    n_bytes = dict.fromkeys(written, 1_000_000)
    versions = kept.kept(written, n_bytes, pinned)
    required = {*sorted(written)[-last:], *(pinned & written.keys())}
    assert required <= versions
    assert len(versions) <= max(disk_mb, len(required))
    unbound = Generations(last=last, hourly=10, daily=10, disk_mb=1e6)
    dropped = unbound.kept(written, n_bytes, pinned) - versions
    if dropped:
        assert max(dropped) < min(versions - required, default=max(written) + 1)


def test_a_store_keeps_the_disk_within_its_bound(tmp_path: Path) -> None:
    kept = Generations(last=2, hourly=50, daily=50, disk_mb=0.05)
    for version in range(1, 30):
        store = SnapshotStore(tmp_path, kept)  # a store takes a generation's age from the disk once
        store.publish(manifest_of(version), {"model": bytes(10_000)}, durable=False)
        at_s = HOUR_S * version
        os.utime(tmp_path / f"v{version:012d}" / MANIFEST, (at_s, at_s))
    assert SnapshotStore(tmp_path, kept).versions() == [26, 27, 28, 29]
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 50_000


def test_a_pinned_generation_stays_until_it_is_unpinned(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, keep=2)
    for version in range(1, 4):
        store.publish(manifest_of(version), {"model": b"x"})
        if version == 1:
            store.pin(1, "a question")
    assert store.pins() == [Pin(1, "a question")]
    assert SnapshotStore(tmp_path, keep=2).versions() == [1, 2, 3]
    assert store.unpin(1)
    assert not store.unpin(1)
    store.publish(manifest_of(4), {"model": b"x"})
    assert store.versions() == [3, 4]
    with pytest.raises(FileNotFoundError):
        store.pin(1)


def test_pins_beyond_the_disk_are_refused(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, Generations(last=5, disk_mb=0.025))
    for version in range(1, 4):
        store.publish(manifest_of(version), {"model": bytes(10_000)})
    store.pin(1)
    store.pin(2)
    with pytest.raises(ValueError, match=r"at most 0\.025 MB in all, got 0\.03"):
        store.pin(3)
    assert [pin.version for pin in store.pins()] == [1, 2]


def test_a_generation_that_is_read_is_not_deleted(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, keep=2)
    store.publish(manifest_of(1), {"model": b"x"})
    with SnapshotStore(tmp_path, keep=2).reading([1]):
        for version in (2, 3, 4):
            store.publish(manifest_of(version), {"model": b"x"})
        assert store.versions() == [1, 3, 4]
        assert store.load_part(1, "model") == b"x"
    store.publish(manifest_of(5), {"model": b"x"})
    assert store.versions() == [4, 5]
    with pytest.raises(FileNotFoundError), store.reading([4, 1]):
        pytest.fail("version 1 is gone")


def test_the_generation_to_resume_from_stays_beside_the_others(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, Generations(last=2, hourly=0, daily=0), lasting="join")
    store.publish(manifest_of(1), {"model": b"x", "join": b"y"})
    for version in (2, 3, 4):
        store.publish(manifest_of(version), {"model": b"x"})
    assert store.versions() == [1, 3, 4]
