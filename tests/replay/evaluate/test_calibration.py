"""Draws that are not those of the logged propensities show; right ones pass, however extreme."""

import numpy as np
import pytest
from logs import draw_batch, softmax
from worlds import LIKES, World, lines

from env.vocabulary import Floats
from policies.baselines import mixture_policy
from replay.evaluate.calibration import (
    Calibration,
    CalibrationTest,
    chi_square_tail,
    compare_arm_sizes,
)
from replay.join.dataset import read
from replay.source import Batch, Draws


def judged(*batches: Batch) -> Calibration:
    """Return the judgement of all draws."""
    calibrating = CalibrationTest()
    for batch in batches:
        calibrating.add(batch.draws)
    result = calibrating.result()
    assert result is not None
    return result


@pytest.mark.parametrize("with_pmf", [True, False])
def test_right_propensities_pass(with_pmf: bool) -> None:
    values = [judged(draw_batch(seed=s, with_pmf=with_pmf)).p_value for s in range(60)]
    assert min(values) > 1e-4
    assert 0.35 < np.mean(values) < 0.65  # .5 -+ 4 standard errors of uniform ones


@pytest.mark.parametrize("temperature", [0.6, 1.6])
@pytest.mark.parametrize("with_pmf", [True, False])
def test_draws_bolder_or_more_timid_than_logged_show(temperature: float, with_pmf: bool) -> None:
    batch = draw_batch(20_000, temperature=temperature, with_pmf=with_pmf)
    assert judged(batch).p_value < 1e-6


def test_the_method_is_that_for_which_there_are_more_draws() -> None:
    assert judged(draw_batch()).method == "pit"
    unknown = draw_batch(4_000, with_pmf=False)
    both = judged(draw_batch(), unknown)
    assert (both.method, both.n) == ("floor", 4_000)
    assert judged(draw_batch(5_000), unknown).method == "pit"


def test_a_log_may_be_judged_in_any_batches() -> None:
    whole = draw_batch(600, with_pmf=False)
    draws = whole.draws
    halves = CalibrationTest()
    for rows in (slice(0, 200), slice(200, 600)):
        halves.add(Draws(draws.propensity[rows], draws.action[rows], draws.eligible[rows], None))
    result = halves.result()
    assert result is not None
    assert result.observed == pytest.approx(judged(whole).observed)
    assert result.p_value == pytest.approx(judged(whole).p_value)


def test_too_few_draws_are_not_judged() -> None:
    calibrating = CalibrationTest()
    calibrating.add(draw_batch(50).draws)
    assert calibrating.result() is None


def test_propensities_that_their_policy_does_not_give_again_show() -> None:
    pmf: Floats = softmax(np.random.default_rng(1).normal(size=(3_000, 5)))
    batch = draw_batch()
    assert judged(batch).max_error == 0.0
    action = batch.action
    off = draw_batch(pmf=pmf, propensity=pmf[np.arange(3_000), action] * (1.0 - 1e-3))
    assert judged(off).max_error == pytest.approx(1e-3 / (1.0 - 1e-3))


def test_a_page_is_judged_by_all_that_it_drew_and_not_by_what_was_seen_to_its_end() -> None:
    """Users who like a card leave no end: what is known of is no fair sample of the draws."""
    world = World(rng=np.random.default_rng(4), ended_share=0.5)
    records = list(world.items())
    for _, its_records in world.pages(mixture_policy(0.3), n_users=250, pages_each=4, eps=0.2):
        records += its_records
    log = read(lines(records), LIKES)
    (batch,) = log.select(log.reward == 0.0).batches()
    assert judged(batch).p_value > 1e-3
    biased = CalibrationTest()
    biased.add(Draws(batch.propensity, batch.action, batch.mask, None))
    other = biased.result()
    assert other is not None
    assert other.p_value < 1e-3


@pytest.mark.parametrize(
    ("value", "dof", "expected"),
    [(3.841, 1, 0.05), (9.488, 4, 0.05), (30.144, 19, 0.05), (43.820, 19, 0.001)],
)
def test_the_tail_is_that_of_the_tables(value: float, dof: int, expected: float) -> None:
    assert chi_square_tail(value, dof) == pytest.approx(expected, rel=0.07)


def test_arms_that_miss_users_show() -> None:
    fair = compare_arm_sizes({"a": 5_050, "b": 4_950}, {"a": 1.0, "b": 1.0})
    assert fair is not None
    assert fair.p_value == pytest.approx(0.317, abs=0.01)
    skewed = compare_arm_sizes({"a": 5_300, "b": 4_700, "old": 800}, {"a": 2.0, "b": 2.0})
    assert skewed is not None
    assert skewed.expected == {"a": 5_000.0, "b": 5_000.0}
    assert skewed.users == {"a": 5_300, "b": 4_700}
    assert skewed.p_value < 1e-6
    missing = compare_arm_sizes({"a": 500}, {"a": 1.0, "b": 1.0})
    assert missing is not None
    assert missing.p_value < 1e-6


def test_one_arm_or_hardly_anybody_is_no_comparison() -> None:
    assert compare_arm_sizes({"all": 900}, {"all": 1.0}) is None
    assert compare_arm_sizes({"a": 3, "b": 4}, {"a": 1.0, "b": 1.0}) is None
