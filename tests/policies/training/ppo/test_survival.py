"""What a session's end is worth, learned from ends whose law is known."""

import numpy as np
import pytest

from env.arrays.reals import logistic
from env.vocabulary import Floats
from policies.training.ppo.survival import LEAST_ENDS, ReturnModel

N_ENDS = 40_000


def _ends(n: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Return features, discounts that came and the ones expected; a column never varies."""
    generator = np.random.default_rng(seed)
    features = np.column_stack([generator.normal(size=(n, 2)), np.ones(n)])
    expected = np.asarray(logistic(2.0 + 0.8 * features[:, 0]))
    return features, generator.beta(3.0 * expected, 3.0 * (1.0 - expected)), expected


def test_the_expected_discount_is_found_within_its_error() -> None:
    features, came, truth = _ends(N_ENDS, seed=1)
    model = ReturnModel()
    model.learn(features, came)
    error = model.expect(features) - truth
    # Three numbers are fitted: each costs a mean square of the noise's over n.
    noise = np.var(came - truth)
    assert np.sqrt(np.mean(error**2)) < 4.0 * np.sqrt(3 * noise / N_ENDS)


def test_few_ends_teach_their_mean_alone() -> None:
    features, came, _ = _ends(LEAST_ENDS - 1, seed=2)
    model = ReturnModel()
    model.learn(features, came)
    assert model.expect(features[:3]) == pytest.approx(came.mean())


def test_a_restored_model_expects_the_same() -> None:
    features, came, _ = _ends(2000, seed=3)
    model, other = ReturnModel(), ReturnModel()
    model.learn(features[:1900], came[:1900])
    model.learn(features[1900:], came[1900:])
    other.restore(model.state())
    assert other.expect(features).tolist() == model.expect(features).tolist()


def test_a_discount_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected discounts in \[0, 1\], got \[0.5, 1.5\]"):
        ReturnModel().learn(np.ones((2, 1)), np.array([0.5, 1.5]))


def test_nothing_is_expected_before_anything_was_learned() -> None:
    with pytest.raises(RuntimeError, match="learn"):
        ReturnModel().expect(np.ones((1, 1)))
