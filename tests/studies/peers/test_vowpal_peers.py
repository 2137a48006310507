import msgspec
import numpy as np
import pytest

from env.columns.schema import N_ACTION, N_SHARED
from env.interface import fill_page
from env.pages.records import interaction_of
from env.vocabulary import (
    Context,
    Features,
    Floats,
    ItemId,
    PageId,
    Scene,
    SessionId,
    SlotRule,
    UserKey,
)
from tests.studies.peers.vowpal_peers import COVER, RND, VowpalPeer

N = 6
PEERS = pytest.mark.parametrize("exploration", [COVER, RND], ids=["cover", "rnd"])


def context_of(rng: np.random.Generator, page_id: str, n: int = N) -> Context:
    shared, actions = np.zeros(N_SHARED, np.float32), np.zeros((n, N_ACTION), np.float32)
    shared[0] = 1.0
    actions[:, :3] = rng.normal(size=(n, 3)).astype(np.float16)
    keys = rng.integers(0, 2**64, n, dtype=np.uint64)
    ids = tuple(ItemId(str(key)) for key in keys)
    page = PageId(page_id)
    features = Features(shared, actions, keys)
    return Context(page, UserKey("u"), SessionId("s"), Scene(0), ids, features)


def slots(n_slots: int = 1) -> tuple[SlotRule, ...]:
    mask = np.ones(N, dtype=np.bool_)
    return (SlotRule(mask, mask),) * n_slots


def learned(exploration: tuple[str, ...], n: int) -> tuple[VowpalPeer, Floats]:
    """A peer that swiped n pages on which the first column is worth a reward, and its rewards."""
    rng, peer, rewards = np.random.default_rng(3), VowpalPeer("peer@0", exploration), []
    for t in range(n):
        page = fill_page(context_of(rng, str(t)), peer, slots(), 0.02, t)
        value = page.context.features.actions[page.decisions[0].action, 0]
        rewards.append(float(value > 0.3))
        peer.learn_pages([page], [interaction_of(page, page.decisions[0], rewards[-1])])
    return peer, np.array(rewards)


@PEERS
def test_vws_pmf_sums_to_one_and_is_what_is_drawn_from(exploration: tuple[str, ...]) -> None:
    peer, _ = learned(exploration, 30)
    context = context_of(np.random.default_rng(4), "p")
    pmf = peer.pmf(context.features)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-5)
    assert (pmf >= 0.0).all()
    explored = peer.explore(peer.score(context), np.ones(N, dtype=np.bool_))
    assert explored.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(explored, pmf, atol=1e-5)


@PEERS
def test_scoring_moves_nothing(exploration: tuple[str, ...]) -> None:
    peer, _ = learned(exploration, 30)
    context = context_of(np.random.default_rng(4), "p")
    once = peer.score(context)
    peer.score(context_of(np.random.default_rng(5), "q"))
    np.testing.assert_array_equal(peer.score(context), once)


@PEERS
def test_it_learns_what_is_worth_showing(exploration: tuple[str, ...]) -> None:
    _, rewards = learned(exploration, 600)
    # Uniform draws earn P(Z > .3) = .38 with a standard error of .028 over 300 cards.
    assert rewards[300:].mean() > 0.382 + 4.0 * 0.028


def test_it_learns_the_same_again() -> None:
    one, other = learned(COVER, 40), learned(COVER, 40)
    np.testing.assert_array_equal(one[1], other[1])


def test_pages_of_several_cards_are_refused() -> None:
    peer = VowpalPeer("peer@0", COVER)
    page = fill_page(context_of(np.random.default_rng(1), "p"), peer, slots(2), 0.02, 1)
    with pytest.raises(ValueError, match="a page of the one card p:0, got 2 cards"):
        peer.learn_pages([page], [interaction_of(page, page.decisions[0], 1.0)])


def test_what_came_of_another_page_is_refused() -> None:
    peer = VowpalPeer("peer@0", COVER)
    page = fill_page(context_of(np.random.default_rng(1), "p"), peer, slots(), 0.02, 1)
    other = msgspec.structs.replace(interaction_of(page, page.decisions[0], 1.0), decision_id="q:0")
    with pytest.raises(ValueError, match="one card q:0"):
        peer.learn_pages([page], [other])
