"""The catalogue: a fold of item records into columns whose indices never change their meaning."""

import msgspec
import numpy as np
import pytest
from builders import catalogue_of, make_item, put

from env.columns.schema import N_STATIC
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.items.orders import Latest
from env.pages.records import Blocks
from env.records import ItemRecord, block_hash, item_key
from env.vocabulary import CreatorId, Item, ItemId

TWINS = "i35185", "i54619"
"""Two names whose keys share their low 32 bits."""
CARD = Item(
    ItemId("a"),
    CreatorId("c"),
    title="How to fold a paper crane",
    tags=("paper", "craft"),
    duration_s=31.5,
    published_ms=1_700_000_000_000,
    language="en-GB",
    country="gb",
    markets=("GB", "us"),
)


class Watched(Catalogue):
    """A catalogue that looks at itself, as another thread might, whenever a column is replaced."""

    shortest_by = 0

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        columns = [c for c in vars(self).values() if isinstance(c, np.ndarray)]
        if "debuts" in vars(self) and columns:
            by = len(self.debuts) - min(map(len, columns))
            super().__setattr__("shortest_by", max(self.shortest_by, by))


def test_an_item_stands_in_every_column() -> None:
    catalogue = catalogue_of(make_item("first"), CARD)
    record = put(CARD)
    assert len(catalogue) == 2
    assert catalogue.ids == ["first", "a"]
    assert catalogue.index_of(CARD.item_id) == 1
    assert catalogue.index_of(ItemId("nobody")) is None
    assert catalogue.item(1) == CARD
    assert catalogue.keys[1] == item_key("a")
    assert catalogue.hashes[1:].tobytes() == block_hash(record.block)
    assert catalogue.blocks.shape == (2, N_STATIC)
    assert np.array_equal(catalogue.blocks[1], static_block(CARD))
    assert np.array_equal(catalogue.vectors[1], static_block(CARD)[:32])
    assert catalogue.published_ms.tolist() == [0, 1_700_000_000_000]
    assert catalogue.duration_s.tolist() == [0.0, 31.5]
    assert catalogue.listed.tolist() == [True, True]


def test_countries_and_languages_are_known_by_their_plain_codes() -> None:
    catalogue = catalogue_of(make_item("first"), CARD)
    assert catalogue.countries[1] == catalogue.codes.country("GB")
    assert catalogue.languages[1] == catalogue.codes.language("en")
    assert catalogue.creators.tolist() == [0, catalogue.codes.creator("c")]


def test_what_is_unknown_equals_no_item() -> None:
    catalogue = catalogue_of(make_item("first"), CARD)
    for unknown in ("", "XX"):
        assert not (catalogue.countries == catalogue.codes.country(unknown)).any()
        assert not (catalogue.languages == catalogue.codes.language(unknown)).any()
    assert catalogue.codes.creators(["nobody", "", "c"]).tolist() == [catalogue.codes.creator("c")]


def test_columns_grow_and_keep_what_they_held() -> None:
    items = [make_item(f"i{i}", duration_s=float(i + 1)) for i in range(2100)]
    catalogue = catalogue_of(*items)
    assert len(catalogue) == 2100
    assert catalogue.duration_s.tolist() == [float(i + 1) for i in range(2100)]
    assert catalogue.keys.tolist() == [item_key(item.item_id) for item in items]


def test_while_the_columns_grow_none_is_shorter_than_that_of_the_debuts() -> None:
    catalogue = Watched()
    for k in range(1030):
        catalogue.apply(put(make_item(f"i{k}")))
    assert catalogue.shortest_by == 0


def test_a_change_keeps_the_index() -> None:
    catalogue = catalogue_of(CARD, make_item("b"))
    catalogue.apply(put(msgspec.structs.replace(CARD, duration_s=5.0, listed=False)))
    assert len(catalogue) == 2
    assert catalogue.duration_s.tolist() == [5.0, 0.0]
    assert catalogue.listed.tolist() == [False, True]


def test_a_takedown_blanks_the_item_and_keeps_the_others_places() -> None:
    catalogue = catalogue_of(CARD, make_item("b"))
    catalogue.apply(ItemRecord(CARD.item_id, 1))
    assert catalogue.item(0) == Item(CARD.item_id, listed=False)
    assert catalogue.index_of(ItemId("b")) == 1
    assert catalogue.listed.tolist() == [False, True]
    assert catalogue.creators.tolist() == [0, 0]
    catalogue.apply(put(CARD))
    assert catalogue.item(0) == CARD
    assert catalogue.listed.tolist() == [True, True]


def test_a_takedown_of_an_unknown_item_only_counts() -> None:
    catalogue = catalogue_of(CARD)
    catalogue.apply(ItemRecord(ItemId("nobody"), 1))
    assert (len(catalogue), catalogue.sequence) == (1, 2)


@pytest.mark.parametrize(
    ("country", "expected"),
    [("GB", [True, True]), ("US", [True, True]), ("TH", [True, False]), ("", [True, False])],
)
def test_where_an_item_may_be_shown_follows_its_markets(country: str, expected: list[bool]) -> None:
    catalogue = catalogue_of(make_item("everywhere"), CARD)
    assert catalogue.in_market(country).tolist() == expected
    assert catalogue.in_market(country, np.array([1])).tolist() == expected[1:]


def test_the_latest_upload_comes_first() -> None:
    catalogue = catalogue_of(make_item("old", published_ms=1), make_item("unknown"))
    assert catalogue.latest().tolist() == [0, 1]
    catalogue.apply(put(make_item("new", published_ms=2)))
    assert catalogue.latest().tolist() == [2, 0, 1]


def test_items_are_found_by_the_low_half_of_their_keys() -> None:
    catalogue = Catalogue()
    keys = np.array([item_key(name) for name in ("b", "nobody", "a")], dtype=np.uint64)
    assert catalogue.find(keys.astype(np.uint32)).tolist() == []
    for name in ("a", "b"):
        catalogue.apply(put(make_item(name)))
    assert catalogue.find(keys.astype(np.uint32)).tolist() == [1, 0]


def test_items_whose_keys_share_their_low_half_are_all_found() -> None:
    one, other = TWINS
    assert item_key(one) != item_key(other)
    short = np.array([item_key(one)], dtype=np.uint64).astype(np.uint32)
    assert short[0] == item_key(other) & 0xFFFF_FFFF
    catalogue = catalogue_of(*map(make_item, ("a", one, "b", other)))
    assert sorted(catalogue.find(short).tolist()) == [1, 3]
    assert catalogue.find(catalogue.keys[[0, 2]].astype(np.uint32)).tolist() == [0, 2]


def test_tags_are_known_by_the_code_of_what_they_mean() -> None:
    catalogue = catalogue_of(make_item("a", tags=["Cats", "#dogs"]), make_item("b", tags=["CATS"]))
    cats, dogs, other = catalogue.codes.tags(["cats", "dogs", "birds"])
    assert catalogue.tags[:, :2].tolist() == [[cats, dogs], [cats, 0]]
    assert (other, catalogue.codes.n_tags) == (0, 3)


def test_a_vector_of_ones_own_takes_the_items_out_of_the_tags_space() -> None:
    catalogue = catalogue_of(make_item("a", tags=["cats"]))
    of_tags = [catalogue.is_of_tags]
    for record in (
        put(make_item("b", vector=[1.0] * 32)),
        put(make_item("c", vector=[1.0] * 32)),
        ItemRecord(ItemId("b"), 1),
        put(make_item("c")),
    ):
        catalogue.apply(record)
        of_tags.append(catalogue.is_of_tags)
    assert of_tags == [True, False, False, False, True]


def test_near_duplicates_share_a_code() -> None:
    again = msgspec.structs.replace(
        CARD, item_id=ItemId("copy"), title="how to FOLD a paper crane!"
    )
    catalogue = catalogue_of(CARD, again, make_item("b"), make_item("c"))
    codes = catalogue.duplicates.tolist()
    assert codes[0] == codes[1]
    assert len(set(codes)) == catalogue.codes.n_duplicates == 3


def test_a_card_holds_the_block_that_the_log_refers_to() -> None:
    blocks = Blocks()
    blocks.fold(put(CARD))
    card = catalogue_of(CARD).card(0)
    assert card.block == put(CARD).block
    assert (card.creator, card.tags, card.duration_s) == ("c", ("paper", "craft"), 31.5)
    assert catalogue_of(make_item("b")).card(0).duration_s == 0.0


def test_the_sequence_is_the_place_in_the_log_where_it_is_given() -> None:
    catalogue = catalogue_of(CARD)
    assert catalogue.sequence == 1
    catalogue.apply(put(CARD), sequence=17)
    assert catalogue.sequence == 17


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            ItemRecord(ItemId("a"), 0, CARD),
            "expected a block of 38 or 70 finite halves.*got 0 bytes",
        ),
        (ItemRecord(ItemId("a"), 0, CARD, b"\0" * 10), "item a, got 10 bytes"),
        (ItemRecord(ItemId("a"), 0, CARD, b"\0\x7e" * N_STATIC), "finite halves"),
        (ItemRecord(ItemId("b"), 0, CARD, put(CARD).block), "expected the item b.*got a"),
    ],
)
def test_a_record_that_is_none_is_refused_and_changes_nothing(
    record: ItemRecord, message: str
) -> None:
    catalogue = catalogue_of(make_item("first"))
    with pytest.raises(ValueError, match=message):
        catalogue.apply(record)
    assert (len(catalogue), catalogue.sequence) == (1, 1)


def test_nobody_writes_to_a_column() -> None:
    catalogue = catalogue_of(CARD)
    with pytest.raises(ValueError, match="read-only"):
        catalogue.listed[0] = False


def test_the_latest_stay_in_order_while_items_come_and_change() -> None:
    rng = np.random.default_rng(3)
    catalogue = catalogue_of(
        *(make_item(f"i{k}", published_ms=int(rng.integers(0, 90))) for k in range(900))
    )
    for k in range(60):
        name = f"i{int(rng.integers(0, 900))}" if k % 2 else f"new{k}"
        for _ in range(1 + k % 2):
            catalogue.apply(put(make_item(name, published_ms=int(rng.integers(0, 120)))))
        if k % 3 == 0:
            expected = np.argsort(-catalogue.published_ms, kind="stable")
            assert catalogue.latest().tolist() == expected.tolist()


def test_several_that_change_between_two_looks_are_each_in_their_place() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        published_ms = rng.integers(0, 1_000, size=1_000)
        latest = Latest()
        for index in range(len(published_ms)):
            latest.put(index, None)
        latest.order(published_ms)
        for index in rng.choice(len(published_ms), 4, replace=False).tolist():
            latest.put(index, int(published_ms[index]))
            published_ms[index] = rng.integers(0, 1_000)
        expected = np.argsort(-published_ms, kind="stable")
        assert latest.order(published_ms).tolist() == expected.tolist()


def test_items_are_found_by_their_keys_however_they_came() -> None:
    catalogue, names = Catalogue(), [f"i{k}" for k in range(2_600)]
    keys = np.array([item_key(name) for name in names], dtype=np.uint64).astype(np.uint32)
    for k, name in enumerate(names):
        catalogue.apply(put(make_item(name)))
        if k % 97 == 0 or k == len(names) - 1:
            assert sorted(catalogue.find(keys[: k + 2]).tolist()) == list(range(min(k + 2, k + 1)))


def test_what_items_have_in_common_follows_their_changes() -> None:
    catalogue = catalogue_of(
        make_item("a", creator="x", tags=["cats", "dogs"]),
        make_item("b", creator="y", tags=["cats"]),
        make_item("c", creator="x"),
    )
    x, cats = catalogue.codes.creators(["x"]), catalogue.codes.tags(["cats"])
    of = [(catalogue.of_creators(x).tolist(), catalogue.of_tags(cats).tolist())]
    for record in (
        put(make_item("a", creator="y", tags=["dogs"])),
        put(make_item("a", creator="x", tags=["cats"])),
        ItemRecord(ItemId("a"), 1),
    ):
        catalogue.apply(record)
        of.append((catalogue.of_creators(x).tolist(), catalogue.of_tags(cats).tolist()))
    assert of == [([0, 2], [0, 1]), ([2], [1]), ([0, 2], [0, 1]), ([2], [1])]


def test_near_duplicates_are_found_by_their_code() -> None:
    again = msgspec.structs.replace(CARD, item_id=ItemId("copy"))
    catalogue = catalogue_of(CARD, again, make_item("b"))
    assert catalogue.alike(catalogue.duplicates[[1]]).tolist() == [0, 1]
    catalogue.apply(put(make_item("copy")))
    assert catalogue.alike(catalogue.duplicates[[0]]).tolist() == [0]


def test_what_changed_since_is_known() -> None:
    catalogue = catalogue_of(CARD, make_item("b"))
    seen = catalogue.n_changes
    for record in (put(make_item("c")), put(make_item("b")), put(make_item("b"))):
        catalogue.apply(record)
    catalogue.apply(ItemRecord(CARD.item_id, 1))
    catalogue.apply(ItemRecord(ItemId("nobody"), 1))
    assert catalogue.changed_since(seen).tolist() == [0, 1, 2]
    assert catalogue.changed_since(catalogue.n_changes).tolist() == []
