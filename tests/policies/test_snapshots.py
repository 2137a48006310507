import os
import shutil
from pathlib import Path

import msgspec
import pytest

from policies.snapshots import MANIFEST, Manifest, PartDigest, SnapshotCorruption, SnapshotStore

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
