"""Importance finds the features that a known world and a known policy go by, and no others."""

import numpy as np
import pytest
from logs import Batches, draw_batch
from worlds import LIKES, World, lines

from env.interface import Policy
from env.vocabulary import Context, Floats
from policies.baselines import PopularityPolicy, UniformPolicy, mixture_policy
from policies.explorers import Softmax
from replay.evaluate.importance import FeatureImportance, importance
from replay.join.dataset import Dataset, read


def make_log() -> Dataset:
    world = World(rng=np.random.default_rng(3))
    records = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=200, pages_each=3, eps=0.1):
        records += its_records
    return read(lines(records), LIKES)


LOG = make_log()


class ByIdentity(PopularityPolicy):
    """Goes by which item it is, whatever it looks like."""

    def score(self, context: Context) -> Floats:
        """Return a score that follows from the key."""
        return (context.features.keys % 1000).astype(np.float64) / 1000.0


def by_name(found: tuple[FeatureImportance, ...]) -> dict[str, FeatureImportance]:
    return {importance.feature: importance for importance in found}


def test_the_reward_goes_by_what_the_world_goes_by() -> None:
    """Popularity counts .5, a content column .2; the two dozen others nothing."""
    reward = importance(LOG, []).reward
    assert reward[0].feature == "popularity"
    assert reward[0].low > 0.03
    found = by_name(reward)
    assert found["content"].of == "item"
    assert found["hour"].of == "context"
    assert list(reward) == sorted(reward, key=lambda f: -f.value)
    nothing = [f for name, f in found.items() if name not in ("popularity", "content", "duration")]
    assert len(nothing) > 20
    assert max(f.value for f in nothing) < found["popularity"].value / 5


@pytest.mark.slow
def test_a_policy_goes_by_what_it_looks_at() -> None:
    policies: list[Policy] = [
        mixture_policy(0.2),
        UniformPolicy(),
        ByIdentity(Softmax(0.1), name="keys@0"),
    ]
    found = importance(LOG, policies).policies
    popular = found["mixture@0"]
    assert popular[0].feature == "popularity"
    assert popular[0].low > 0.2
    assert all(f.value == 0.0 for f in popular[1:])
    assert all(f.value < 1e-12 for f in found["uniform@0"])
    assert found["keys@0"][0].feature == "item itself"
    assert all(f.value == 0.0 for f in found["keys@0"][1:])


def test_a_foreign_logs_features_are_named_by_their_place() -> None:
    features = np.random.default_rng(5).normal(size=(1_500, 4, 2))
    batch = draw_batch(1_500, 4, action_context=features, context=np.ones((1_500, 1)))
    reward = features[np.arange(1_500), batch.action, 1]
    source = Batches(
        [draw_batch(1_500, 4, action_context=features, context=np.ones((1_500, 1)), reward=reward)]
    )
    found = importance(source, [UniformPolicy()])
    assert found.reward[0].feature == "item 1"
    assert found.reward[0].value == pytest.approx(2.0, rel=0.1)  # all of it, twice the variance
    assert {f.feature for f in found.reward} == {"item 0", "item 1", "context 0"}


def test_a_decision_counts_as_often_as_its_row_stands_for() -> None:
    """Item 0 decides where rows stand for ten decisions each, item 1 where they stand for one."""
    n = 2_000
    features = np.random.default_rng(6).normal(size=(n, 4, 2))
    batch = draw_batch(n, 4, action_context=features)
    heavy = np.arange(n) % 2 == 0
    chosen = features[np.arange(n), batch.action]
    reward = np.where(heavy, chosen[:, 0], chosen[:, 1])

    def found(counts: Floats) -> dict[str, FeatureImportance]:
        given = draw_batch(n, 4, action_context=features, reward=reward, row_weight=counts)
        return by_name(importance(Batches([given]), []).reward)

    even, uneven = found(np.ones(n)), found(np.where(heavy, 10.0, 1.0))
    assert even["item 0"].value == pytest.approx(even["item 1"].value, rel=0.3)
    assert uneven["item 0"].value > 5 * uneven["item 1"].value


def test_the_same_seed_gives_the_same_importance() -> None:
    assert importance(LOG, [], seed=3) == importance(LOG, [], seed=3)


def test_a_log_without_features_has_no_importance() -> None:
    with pytest.raises(ValueError, match="needs a log with features, got one without"):
        importance(Batches([draw_batch(500)]), [])
    with pytest.raises(ValueError, match="needs decisions, got none"):
        importance(Batches([]), [])
