"""The ranker: its formula, any number of candidates in any order, and what no file gets past."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from env.columns.schema import MAX_HALF
from env.vocabulary import Float32s, Floats
from policies.ranker.ranker import LIMIT, MOST_ROWS, Ranker, RankerArgs
from policies.ranker.tensors import MOST_HEADER, manifest_path, write_verified
from policies.snapshots import SnapshotCorruption
from tests.studies.retention.ranker import random_ranker, random_tensors

ARGS = RankerArgs(n_user=5, n_item=7, hidden=16, embed=8)


def make(seed: int, args: RankerArgs = ARGS) -> Ranker:
    return random_ranker(args, np.random.default_rng(seed))


def columns(seed: int, *shape: int) -> Float32s:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_hand(ranker: Ranker, user: Float32s, items: Float32s) -> Floats:
    """The formula of the module, candidate by candidate, in float64."""
    t = {name: tensor.astype(np.float64) for name, tensor in ranker.tensors.items()}

    def embed(side: str, x: Float32s) -> Floats:
        scaled = np.clip((x - t[f"{side}.shift"]) * t[f"{side}.scale"], -LIMIT, LIMIT)
        hidden = np.tanh(t[f"{side}.inner.weight"] @ scaled + t[f"{side}.inner.bias"])
        embedding: Floats = t[f"{side}.outer.weight"] @ hidden + t[f"{side}.outer.bias"]
        return embedding

    h_u, scores = embed("user", user), []
    for item in items:
        h_i = embed("item", item)
        joined = np.concatenate([h_u, h_i, h_u * h_i])
        hidden = np.tanh(t["head.inner.weight"] @ joined + t["head.inner.bias"])
        scores.append(float(t["head.outer.weight"][0] @ hidden))
    return np.array(scores)


# --- the forward pass -----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 8, 17, 100, 200])
def test_scores_are_the_formula_for_any_number_of_candidates(k: int) -> None:
    for seed in range(5):
        ranker, user, items = make(seed), columns(10 + seed, 5), columns(20 + seed, k, 7)
        scores = ranker.scores(user, items)
        assert scores.dtype == np.float64
        assert scores.shape == (k,)
        assert np.abs(scores - by_hand(ranker, user, items)).max() < 1e-5


def test_the_order_of_candidates_is_the_order_of_scores_and_changes_none() -> None:
    ranker, user, items = make(1), columns(2, 5), columns(3, 40, 7)
    order = np.random.default_rng(4).permutation(40)
    assert ranker.scores(user, items[order]) == pytest.approx(
        ranker.scores(user, items)[order], abs=1e-5
    )


def test_a_candidate_s_score_does_not_depend_on_the_others() -> None:
    ranker, user, items = make(1), columns(2, 5), columns(3, 40, 7)
    alone = [ranker.scores(user, items[i : i + 1])[0] for i in range(40)]
    assert ranker.scores(user, items) == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (3, 20), (300, 20), (2, MOST_ROWS + 3), (4, 0)])
def test_scores_of_many_users_are_those_of_each(n: int, k: int) -> None:
    ranker, users, items = make(5), columns(6, n, 5), columns(7, n, k, 7)
    together = ranker.batch_scores(users, items)
    assert together.shape == (n, k)
    for user, offered, scores in zip(users, items, together, strict=True):
        assert scores == pytest.approx(ranker.scores(user, offered), abs=1e-5)


def test_candidates_that_are_the_same_for_all_need_no_copies() -> None:
    ranker, users, items = make(5), columns(6, 30, 5), columns(7, 4, 7)
    offered = np.broadcast_to(items, (30, 4, 7))
    again = [ranker.scores(user, items) for user in users]
    assert np.abs(ranker.batch_scores(users, offered) - again).max() < 1e-5


def test_the_greatest_columns_that_a_log_can_hold_give_finite_scores() -> None:
    ranker = make(8)
    bound = np.abs(ranker.tensors["head.outer.weight"]).sum() + 1e-4
    for sign in (-1.0, 1.0):
        user = np.full(5, sign * MAX_HALF, dtype=np.float32)
        items = np.full((3, 7), -sign * MAX_HALF, dtype=np.float32)
        scores = ranker.scores(user, items)
        assert np.isfinite(scores).all()
        assert np.abs(scores).max() <= bound


def test_scoring_is_pure_to_the_last_bit_and_leaves_its_columns_alone() -> None:
    ranker, user, items = make(1), columns(2, 5), columns(3, 40, 7)
    before = user.copy(), items.copy()
    first = ranker.scores(user, items)
    ranker.batch_scores(user[None], items[None])
    assert np.array_equal(first, ranker.scores(user, items))
    assert np.array_equal(user, before[0])
    assert np.array_equal(items, before[1])


@pytest.mark.parametrize(
    ("user", "items"),
    [((4,), (3, 7)), ((5,), (3, 6)), ((5,), (7,)), ((1, 5), (3, 7)), ((5,), (1, 3, 7))],
)
def test_columns_of_another_shape_are_refused(
    user: tuple[int, ...], items: tuple[int, ...]
) -> None:
    expected = r"expected a user of shape \(5,\) and candidates of shape \(K, 7\), got"
    with pytest.raises(ValueError, match=expected):
        make(1).scores(np.zeros(user, np.float32), np.zeros(items, np.float32))


@pytest.mark.parametrize(
    ("users", "items"), [((2, 5), (3, 4, 7)), ((2, 4), (2, 4, 7)), ((2, 5), (2, 7))]
)
def test_users_and_candidates_that_do_not_go_together_are_refused(
    users: tuple[int, ...], items: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        make(1).batch_scores(np.zeros(users, np.float32), np.zeros(items, np.float32))


@pytest.mark.parametrize("field", ["n_user", "n_item", "hidden", "embed"])
@pytest.mark.parametrize("value", [0, -1, 65_537])
def test_a_shape_that_is_none_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} must be from 1 to 65536, got {value}"):
        RankerArgs(**{"n_user": 5, "n_item": 7, field: value})


# --- bytes and files ------------------------------------------------------------------------------


def test_a_ranker_comes_back_from_its_bytes_to_the_last_bit() -> None:
    ranker, user, items = make(1), columns(2, 5), columns(3, 40, 7)
    again = Ranker.from_bytes(ranker.to_bytes())
    assert again.args == ranker.args
    assert np.array_equal(again.scores(user, items), ranker.scores(user, items))
    assert again.to_bytes() == ranker.to_bytes() == make(1).to_bytes()


def test_the_weights_of_a_ranker_cannot_be_changed_under_it() -> None:
    tensors = random_tensors(ARGS, np.random.default_rng(1))
    ranker, user, items = Ranker(ARGS, tensors), columns(2, 5), columns(3, 4, 7)
    before = ranker.scores(user, items)
    for tensor in tensors.values():
        tensor[:] = 0.0
    assert np.array_equal(ranker.scores(user, items), before)
    with pytest.raises(ValueError, match="read-only"):
        ranker.tensors["user.shift"][:] = 0.0


def words(**changes: object) -> dict[str, str]:
    args = {"n_user": 5, "n_item": 7, "hidden": 16, "embed": 8}
    return {"ranker": json.dumps({"format_version": 1, "args": args, **changes})}


def saved(said: dict[str, str] | None = None, **changes: Floats | Float32s | None) -> bytes:
    """Return a file of a ranker in which tensors, `_` for `.`, are others or left out."""
    tensors: dict[str, Floats | Float32s] = {**random_tensors(ARGS, np.random.default_rng(1))}
    for changed, tensor in changes.items():
        name = changed.replace("_", ".")
        del tensors[name]
        if tensor is not None:
            tensors[name] = tensor
    return safetensors.numpy.save(tensors, words() if said is None else said)


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def holding(name: str, value: float) -> bytes:
    tensors = random_tensors(ARGS, np.random.default_rng(1))
    tensors[name].flat[0] = value
    return safetensors.numpy.save(tensors, words())


REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "expected safetensors with a header"),
    ("a header that is not all there", struct.pack("<Q", 900) + b"{}", "announce one of 900"),
    ("a huge header", struct.pack("<Q", 2**63) + b"{}", f"of 2 to {MOST_HEADER} bytes"),
    ("a pickle", pickle.dumps({"user.shift": [0.0] * 500}), "expected safetensors"),
    ("a header that is no JSON", with_header(b"not json at all"), "expected the header"),
    ("a header in no Unicode", with_header(b'{"\xff":{}}'), "expected the header"),
    ("a header of a list", with_header(b"[1, 2]"), "expected the header"),
    ("double precision", saved(user_shift=np.zeros(5)), "expected the header .* float32"),
    ("half of it", saved()[: len(saved()) // 2], "expected safetensors, got .* that are not"),
    ("a byte too few", saved()[:-1], "expected safetensors, got .* that are not"),
    ("a byte too many", saved() + b"\0", "expected safetensors, got .* that are not"),
    ("no words", saved({}), "expected safetensors of a ranker, got"),
    ("words that are no JSON", saved({"ranker": "shape"}), "expected arguments of a ranker"),
    ("no shape", saved(words(args={"n_user": 5})), "expected arguments of a ranker: .*n_item"),
    ("a shape of nothing", saved(words(args={"n_user": 0, "n_item": 7})), "n_user must be from 1"),
    ("unknown words", saved(words(activation="relu")), "expected arguments of a ranker"),
    ("a later format", saved(words(format_version=2)), "expected format 1, got 2"),
    ("a missing tensor", saved(user_shift=None), "tensors are missing: user.shift"),
    (
        "a tensor too many",
        safetensors.numpy.save(
            {**random_tensors(ARGS, np.random.default_rng(1)), "x": np.zeros(1, np.float32)},
            words(),
        ),
        "tensors that no ranker has: x",
    ),
    (
        "another width",
        saved(user_shift=np.zeros(6, np.float32)),
        r"user.shift: expected float32 of shape \(5,\), got float32 of \(6,\)",
    ),
    (
        "a transposed matrix",
        saved(item_outer_weight=np.zeros((16, 8), np.float32)),
        r"item.outer.weight: expected float32 of shape \(8, 16\), got float32 of \(16, 8\)",
    ),
    ("NaN", holding("head.outer.weight", np.nan), "head.outer.weight: expected finite numbers"),
    ("infinity", holding("user.inner.bias", -np.inf), "user.inner.bias: expected finite numbers"),
    ("a scale of 0", holding("item.scale", 0.0), "item.scale: expected numbers above 0, got 0.0"),
]


@pytest.mark.parametrize(
    ("data", "message"), [pytest.param(data, said, id=name) for name, data, said in REFUSED]
)
def test_bytes_that_are_no_ranker_are_refused_with_words(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ranker.from_bytes(data)


def test_a_file_comes_back_when_its_manifest_vouches_for_it(tmp_path: Path) -> None:
    path, user, items = tmp_path / "r.safetensors", columns(2, 5), columns(3, 4, 7)
    for seed in (1, 2):  # the second is written over the first
        make(seed).to_file(path)
        assert np.array_equal(
            Ranker.from_file(path).scores(user, items), make(seed).scores(user, items)
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, manifest_path(path).name]


def flipped(data: bytes) -> bytes:
    """Change the last number a little: it stays a ranker, but not the one that was written."""
    return data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flipped, "its sha256 is not the manifest's"),
        (lambda data: data[:-100], "expected .* bytes, got"),
        (lambda data: b"", "expected .* bytes, got 0"),
    ],
)
def test_a_file_that_its_manifest_does_not_vouch_for_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "r.safetensors"
    make(1).to_file(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SnapshotCorruption, match=message):
        Ranker.from_file(path)


@pytest.mark.parametrize("manifest", [b"", b"{}", b"\xff", b'{"sha256": "", "size": "all"}'])
def test_a_manifest_that_cannot_be_read_vouches_for_nothing(
    tmp_path: Path, manifest: bytes
) -> None:
    path = tmp_path / "r.safetensors"
    make(1).to_file(path)
    manifest_path(path).write_bytes(manifest)
    with pytest.raises(SnapshotCorruption, match=manifest_path(path).name):
        Ranker.from_file(path)


def test_a_file_without_a_manifest_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    path.write_bytes(make(1).to_bytes())
    with pytest.raises(FileNotFoundError, match=manifest_path(path).name):
        Ranker.from_file(path)


class Mark:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_a_manifest_vouches_for_is_refused_and_never_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "r.safetensors", tmp_path / "mark"
    write_verified(path, pickle.dumps(Mark(mark)))
    with pytest.raises(SnapshotCorruption, match="expected safetensors"):
        Ranker.from_file(path)
    assert not mark.exists()
