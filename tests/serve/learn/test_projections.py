"""The trainer of projections: it learns when it should and keeps every item's block current."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from histories import START_MS, config_of
from servers import kept_in, open_kind

from env.columns.schema import CONTENT_DIM, N_STATIC
from env.items.catalogue import Catalogue
from env.items.content import ContentEncoder, EncodedBlock, encoded, static_block
from env.records import ItemRecord, ProjectionRecord, item_key, pack_halves
from env.vocabulary import Float32s, Item, ItemId
from serve.jobs.import_data import import_items
from serve.learn.learner import OnlineLearner
from serve.learn.projections import ProjectionTrainer, known_projections
from serve.learn.settings import learning_args, open_snapshots
from serve.store.ledger import put_items, remove_item
from serve.store.store import Store, write_now

M = 96
"""Numbers of a vector here."""

LEAST = 80


class ByLetters:
    """Embeds a title by the counts of its letters, twice over so that it is long enough."""

    def encode(self, texts: str | list[str], /) -> Float32s:
        if isinstance(texts, str):
            counts = [texts.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
            return np.array(counts * 3, dtype=np.float32)
        return np.stack([self.encode(text) for text in texts])


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with kept_in(request.param), open_kind(tmp_path / "data", lambda: START_MS) as store:
        yield store


def items(n: int, *, first: int = 0, length: int = M) -> list[Item]:
    rng = np.random.default_rng([first, length])
    return [
        Item(ItemId(f"i{first + k}"), vector=tuple(row.tolist()), published_ms=START_MS)
        for k, row in enumerate(rng.standard_normal((n, length)))
    ]


def put(store: Store, some: list[Item], blocks: list[EncodedBlock] | None = None) -> None:
    encodings = blocks or [encoded(item) for item in some]
    write_now(
        store, lambda transaction: put_items(transaction, some, encodings, START_MS, are_new=False)
    )


def trainer(store: Store) -> ProjectionTrainer:
    return ProjectionTrainer(store, titles=None, now_ms=lambda: START_MS, least_items=LEAST)


def settle(training: ProjectionTrainer) -> int:
    """Let a trainer do all that is to do; return the number of its steps."""
    n = 0
    while training.step():
        n += 1
        assert n < 100
    return n


def catalogue_of(store: Store) -> Catalogue:
    catalogue = Catalogue()
    for line in store.item_lines(0, 10_000):
        assert isinstance(line.record, ItemRecord | ProjectionRecord)
        catalogue.apply(line.record, sequence=line.offset)
    return catalogue


def check_current(store: Store, some: list[Item]) -> None:
    """All items have the blocks that the newest projection gives them."""
    catalogue = catalogue_of(store)
    encoder = ContentEncoder(projections=catalogue.projections)
    for item in some:
        index = catalogue.index_of(item.item_id)
        assert index is not None
        assert catalogue.block(index) == pack_halves(static_block(item, encoder))


def test_with_items_enough_a_projection_is_learned_and_all_are_encoded_anew(store: Store) -> None:
    some = items(LEAST - 1)
    put(store, some)
    training = trainer(store)
    assert settle(training) == 0, "one is missing"
    more = items(1, first=LEAST)
    put(store, more)
    assert settle(training) > 0
    assert known_projections(store).newest("vector") == 2
    check_current(store, some + more)
    with store.view() as view:
        assert view.vectors() == (LEAST, M), "they are the same items"


def test_what_an_older_projection_encoded_is_encoded_anew_and_a_restart_finds_it(
    store: Store,
) -> None:
    some = items(LEAST)
    put(store, some)
    settle(trainer(store))
    late = items(5, first=1_000)
    put(store, late)  # by a process that had not read of the projection yet
    assert settle(trainer(store)) > 0
    assert settle(trainer(store)) == 0
    check_current(store, some + late)


def test_a_projection_is_learned_anew_when_items_are_four_times_as_many(store: Store) -> None:
    put(store, items(LEAST))
    training = trainer(store)
    settle(training)
    put(store, items(2 * LEAST, first=1_000))
    settle(training)
    assert known_projections(store).newest("vector") == 2
    put(store, items(LEAST, first=5_000))
    settle(training)
    assert known_projections(store).newest("vector") == 3


def test_vectors_that_fit_and_items_of_tags_are_left_alone(store: Store) -> None:
    put(store, items(LEAST + 5, length=CONTENT_DIM))
    put(store, [Item(ItemId(f"t{k}"), tags=("cats",), published_ms=START_MS) for k in range(99)])
    settle(trainer(store))
    assert known_projections(store).newest("vector") == 1
    lines = [line.record for line in store.item_lines(0, 10_000)]
    assert len(lines) == LEAST + 5 + 99


def test_items_of_an_older_release_are_encoded_anew(store: Store) -> None:
    some = items(3)
    old = EncodedBlock(pack_halves(np.ones(N_STATIC, dtype=np.float32)), 0)
    put(store, some, [old] * 3)
    assert settle(trainer(store)) > 0
    check_current(store, some)


def test_a_removed_item_is_not_put_again(store: Store) -> None:
    some = items(LEAST)
    put(store, some)
    training = trainer(store)
    assert training.step(), "the projection"
    write_now(store, lambda transaction: remove_item(transaction, some[0].item_id, START_MS))
    settle(training)
    catalogue = catalogue_of(store)
    index = catalogue.index_of(some[0].item_id)
    assert index is not None
    assert not catalogue.listed[index]
    check_current(store, some[1:])


def test_vectors_of_another_length_get_a_projection_of_their_own(store: Store) -> None:
    some = items(LEAST)
    put(store, some)
    training = trainer(store)
    settle(training)
    for item in some:
        write_now(store, partial(remove_item, item_id=item.item_id, at_ms=START_MS))
    others = items(LEAST, first=500, length=M + 4)
    put(store, others)
    settle(training)
    projections = known_projections(store)
    assert projections.newest("vector") == 3
    assert projections.of("vector", M + 4).number == 3
    check_current(store, others)


def test_titles_are_projected_too(store: Store) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    rng = np.random.default_rng(3)
    titles = ["".join(rng.choice(list(letters), 12)) for _ in range(LEAST)]
    some = [
        Item(ItemId(f"i{k}"), title=title, published_ms=START_MS) for k, title in enumerate(titles)
    ]
    put(store, some)
    training = ProjectionTrainer(
        store, titles=ByLetters(), now_ms=lambda: START_MS, least_items=LEAST
    )
    settle(training)
    assert known_projections(store).newest("title") == 2
    vectors = catalogue_of(store).vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(LEAST), abs=1e-2)


def test_an_import_of_items_enough_learns_first(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    some = items(300)
    import_items(config, some, START_MS)
    with open_kind(tmp_path / "data", lambda: START_MS) as store:
        kinds = [type(line.record) for line in store.item_lines(0, 10_000)]
        assert kinds == [ProjectionRecord, *[ItemRecord] * 300]
        check_current(store, some)
        assert settle(trainer(store)) == 0


def test_answers_enough_make_another_one_once(tmp_path: Path) -> None:
    config = config_of(tmp_path / "data")
    with open_kind(tmp_path / "data", lambda: START_MS) as store:
        put(store, items(LEAST))
        learner = OnlineLearner(
            store,
            open_snapshots(config),
            learning_args(config),
            now_ms=lambda: START_MS,
            monotonic_s=lambda: 0.0,
        )
        window = learner.learning.window
        assert window is not None
        for k in range(500):
            window.put(k % 7, item_key(f"i{k % LEAST}"), 1.0 if k % 3 else -1.0)
        training = ProjectionTrainer(
            store, titles=None, now_ms=lambda: START_MS, least_items=LEAST, least_answers=400
        )
        settle(training)
        training.offer(learner.learning)
        settle(training)
        assert known_projections(store).newest("vector") == 3
        training.offer(learner.learning)
        again = ProjectionTrainer(
            store, titles=None, now_ms=lambda: START_MS, least_items=LEAST, least_answers=400
        )
        again.offer(learner.learning)
        assert settle(again) == 0, "a restart learns nothing anew"
        last = [line.record for line in store.log.read(kinds=["projection"])][-1]
        assert isinstance(last, ProjectionRecord)
        assert (last.n_items, last.n_answers) == (LEAST, 500)
