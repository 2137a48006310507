"""obp's fields: what our log says in them, item by item."""

import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.columns.schema import N_SHARED, N_STATIC
from policies.baselines import UniformPolicy
from replay.formats.obp_write import bandit_feedback
from replay.join.our_log import LogSource


@pytest.fixture(scope="module")
def world() -> World:
    return World(rng=np.random.default_rng(3))


@pytest.fixture(scope="module")
def source(world: World) -> LogSource:
    records = list(world.items())
    for _, its in world.pages(UniformPolicy(), n_users=20, pages_each=3, eps=0.1, arm="a"):
        records += its
    return LogSource(lambda: lines(records), LIKES)


def test_the_dict_is_as_obp_documents_it(world: World, source: LogSource) -> None:
    feedback = {name: np.asarray(value) for name, value in bandit_feedback(source).items()}
    n, n_items = len(source), world.n_items
    assert {name: value.shape for name, value in feedback.items()} == {
        "n_rounds": (),
        "n_actions": (),
        "context": (n, N_SHARED),
        "action_context": (n_items, N_STATIC),
        "action": (n,),
        "position": (n,),
        "reward": (n,),
        "pscore": (n,),
    }
    assert [int(feedback[name]) for name in ("n_rounds", "n_actions")] == [n, n_items]
    assert feedback["action"].dtype.kind == feedback["position"].dtype.kind == "i"


def test_a_round_is_the_decision_of_the_log(world: World, source: LogSource) -> None:
    feedback = {name: np.asarray(value) for name, value in bandit_feedback(source).items()}
    (batch,) = source.batches()
    for name, column in (("reward", batch.reward), ("pscore", batch.propensity)):
        np.testing.assert_array_equal(feedback[name], column)
    np.testing.assert_array_equal(feedback["position"], batch.slot)
    for page, rows in batch.pages:
        for row in rows.tolist():
            item = int(page.context.candidates[batch.action[row]].removeprefix("v"))
            of_item = feedback["action_context"][feedback["action"][row]]
            np.testing.assert_array_equal(of_item, world.static[item])
            np.testing.assert_array_equal(feedback["context"][row], page.context.features.shared)


def test_a_log_without_a_decision_is_refused() -> None:
    with pytest.raises(ValueError, match="expected decisions that can be evaluated, got none"):
        bandit_feedback(LogSource(lambda: lines([]), LIKES))
