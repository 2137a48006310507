"""Estimators of pages against worlds that are enumerated, so that what they expect is exact."""

import dataclasses
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.records import Record
from env.vocabulary import Floats, Ints
from policies.baselines import UniformPolicy, mixture_policy
from replay.estimators.intervals import Estimate
from replay.estimators.slates import (
    SlatePredictions,
    Slates,
    cascade_dr,
    independent_ips,
    independent_snips,
    joint_ips,
    joint_snips,
    pseudo_inverse,
    pseudo_inverse_snips,
    reward_interaction_ips,
    reward_interaction_snips,
)
from replay.evaluate.slate_log import read_slates
from replay.join import dataset
from replay.reward_models.ridge import cross_fit

N_CARDS = 3
N_SLOTS = 3
PAGES = np.array(list(product(range(N_CARDS), repeat=N_SLOTS)))  # every page, equally likely logged
TARGET = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.0, 0.4]])  # by slot
APPEAL = np.array([[1.0, 0.2, 0.5], [0.3, 0.9, 0.4], [0.0, 0.7, 1.5]])  # by slot and card
Weighted = Callable[[Slates], Estimate]


def every_page(reward: Floats) -> Slates:
    """Return a log that holds each page of a uniform logging policy as often as it expects."""
    target = TARGET[np.arange(N_SLOTS), PAGES]
    propensity = np.full(PAGES.shape, 1.0 / N_CARDS)
    return Slates(np.arange(len(PAGES)), reward, propensity, target)


def value(reward: Floats) -> float:
    """Return what the target earns, from every page's probability."""
    chance = TARGET[np.arange(N_SLOTS), PAGES].prod(axis=1)
    return float(chance @ reward.sum(axis=1))


def independent() -> Floats:
    """Return rewards of a slot that depend on its own card alone."""
    return np.asarray(APPEAL[np.arange(N_SLOTS), PAGES])


def cascading() -> Floats:
    """Return rewards of a slot that depend on the cards above it."""
    reward = independent()
    reward[:, 1:] *= 0.2 + (PAGES[:, 1:] != PAGES[:, :-1])
    return reward


def intertwined() -> Floats:
    """Return rewards of a slot that depend on cards below it too."""
    return np.asarray(cascading() * (1.0 + (PAGES[:, ::-1] == 2)))


def zero(slates: Slates) -> SlatePredictions:
    return SlatePredictions(np.zeros(slates.reward.shape), np.zeros(slates.reward.shape))


def guess(slates: Slates) -> SlatePredictions:
    """Return a Q that is wrong, but knows the scene and no card below."""
    q = np.random.default_rng(1).normal(size=(N_SLOTS, N_CARDS))
    chosen = q[np.arange(N_SLOTS), PAGES]
    direct = np.broadcast_to((TARGET * q).sum(axis=1), chosen.shape)
    return SlatePredictions(chosen, np.asarray(direct))


@pytest.mark.parametrize(
    ("estimator", "reward"),
    [
        (joint_ips, independent()),
        (joint_ips, cascading()),
        (joint_ips, intertwined()),
        (reward_interaction_ips, independent()),
        (reward_interaction_ips, cascading()),
        (independent_ips, independent()),
        (pseudo_inverse, independent()),
        (lambda slates: cascade_dr(slates, guess(slates)), cascading()),
    ],
)
def test_an_estimator_expects_the_exact_value_where_its_assumptions_hold(
    estimator: Weighted, reward: Floats
) -> None:
    assert estimator(every_page(reward)).value == pytest.approx(value(reward), abs=1e-12)


@pytest.mark.parametrize(
    ("estimator", "reward"),
    [
        (reward_interaction_ips, intertwined()),
        (independent_ips, cascading()),
        (pseudo_inverse, cascading()),
        (lambda slates: cascade_dr(slates, guess(slates)), intertwined()),
    ],
)
def test_an_estimator_is_biased_where_they_do_not(estimator: Weighted, reward: Floats) -> None:
    assert abs(estimator(every_page(reward)).value - value(reward)) > 0.01


def test_the_pseudo_inverse_needs_no_rewards_by_slot() -> None:
    reward = independent()
    moved = np.zeros_like(reward)
    moved[:, 0] = reward.sum(axis=1)
    assert pseudo_inverse(every_page(moved)).value == pytest.approx(value(reward), abs=1e-12)
    assert abs(independent_ips(every_page(moved)).value - value(reward)) > 0.01


def test_cascade_dr_without_a_model_is_reward_interaction_ips() -> None:
    slates = every_page(cascading())
    mine, theirs = cascade_dr(slates, zero(slates)), reward_interaction_ips(slates)
    assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se))


def test_cascade_dr_is_the_recursion_from_the_last_slot_up() -> None:
    slates = every_page(cascading())
    predictions, weights = guess(slates), slates.weights
    below = np.zeros(len(slates))
    for slot in reversed(range(N_SLOTS)):
        surprise = slates.reward[:, slot] + below - predictions.chosen[:, slot]
        below = predictions.direct[:, slot] + weights[:, slot] * surprise
    assert cascade_dr(slates, predictions).value == pytest.approx(below.mean())


@pytest.mark.parametrize(
    "estimator", [joint_snips, reward_interaction_snips, independent_snips, pseudo_inverse_snips]
)
def test_self_normalised_estimates_move_with_the_rewards_zero(estimator: Weighted) -> None:
    few = at(every_page(cascading()), np.arange(0, len(PAGES), 2))
    moved = Slates(few.user, few.reward + 1.0, few.propensity, few.target)
    assert estimator(moved).value == pytest.approx(estimator(few).value + N_SLOTS)


@pytest.mark.parametrize(
    "estimator",
    [
        joint_ips,
        joint_snips,
        reward_interaction_ips,
        reward_interaction_snips,
        independent_ips,
        pseudo_inverse,
        lambda slates: cascade_dr(slates, zero(slates)),
    ],
)
def test_slots_that_a_page_does_not_have_change_nothing(estimator: Weighted) -> None:
    slates = every_page(cascading())
    wider = Slates(
        slates.user,
        np.pad(slates.reward, ((0, 0), (0, 2))),
        np.pad(slates.propensity, ((0, 0), (0, 2)), constant_values=1.0),
        np.pad(slates.target, ((0, 0), (0, 2)), constant_values=1.0),
    )
    mine, theirs = estimator(wider), estimator(slates)
    assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se))


def test_pages_of_one_user_count_as_one() -> None:
    slates = every_page(cascading())
    theirs = reward_interaction_ips(slates)
    mine = reward_interaction_ips(at(slates, np.tile(np.arange(len(slates)), 2)))
    assert mine.n == 2 * theirs.n
    assert mine.n_users == theirs.n_users
    assert mine.se == pytest.approx(theirs.se)


@pytest.mark.parametrize(
    ("column", "wrong", "message"),
    [
        ("user", -1, "user code must be at least 0, got -1 in row 1"),
        ("reward", np.nan, "reward must be finite, got nan in row 1, slot 2"),
        ("propensity", 0.0, r"propensity must be in \(0, 1\], got 0.0 in row 1, slot 2"),
        ("target", 1.5, r"target probability must be in \[0, 1\], got 1.5 in row 1, slot 2"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place(
    column: str, wrong: float, message: str
) -> None:
    slates = every_page(cascading())
    values = {name: getattr(slates, name).copy() for name in Slates.__slots__}
    values[column][(1, 2) if values[column].ndim == 2 else 1] = wrong
    with pytest.raises(ValueError, match=message):
        Slates(**values)


def test_columns_of_different_shape_are_refused() -> None:
    slates = every_page(cascading())
    with pytest.raises(ValueError, match=r"expected target of shape \(27, 3\), got \(27, 2\)"):
        Slates(slates.user, slates.reward, slates.propensity, slates.target[:, :2])


def test_a_target_that_no_logged_page_could_be_of_is_refused() -> None:
    slates = every_page(cascading())
    slates.target[:, 1] = 0.0
    with pytest.raises(ValueError, match="got none in 27 down to slot 1"):
        reward_interaction_snips(slates)


def at(slates: Slates, rows: Ints) -> Slates:
    return Slates(*(getattr(slates, name)[rows] for name in Slates.__slots__))


def test_pages_of_a_log_have_their_policys_own_propensities_and_unseen_cards_earn_nothing() -> None:
    world = World(rng=np.random.default_rng(5), seen_share=0.5)
    policy, records = mixture_policy(0.3), list[Record](world.items())
    for _, its_records in world.pages(policy, n_users=40, pages_each=3, eps=0.2):
        records += its_records
    log = dataset.read(lines(records), LIKES)
    slates, predictions = read_slates(log.batches(), policy, cross_fit(log))
    assert slates.weights == pytest.approx(np.ones(slates.reward.shape))
    assert slates.reward.shape[1] == world.n_slots
    assert slates.reward.sum() == log.reward.sum() > 0.0
    estimates = joint_ips(slates), cascade_dr(slates, predictions)
    mean = log.reward.sum() / len(slates)
    assert estimates[0].value == pytest.approx(mean)
    assert abs(estimates[1].value - mean) <= 3.0 * estimates[1].se


def test_a_page_of_a_log_is_worth_to_a_target_what_its_own_log_earns() -> None:
    """Cards are seen whatever they are here, so both logs see as many."""
    target = mixture_policy(0.5)
    earned = []
    for policy in (UniformPolicy(), target):
        world = World(rng=np.random.default_rng(6), ended_share=1.0)
        records: list[Record] = list(world.items())
        for _, its_records in world.pages(policy, n_users=60, pages_each=3, eps=0.3):
            records += its_records
        log = dataset.read(lines(records), LIKES)
        slates, predictions = read_slates(log.batches(), target, cross_fit(log))
        earned.append((reward_interaction_ips(slates), cascade_dr(slates, predictions)))
    for guessed, true in zip(*earned, strict=True):
        assert abs(guessed.value - true.value) <= 3.0 * np.hypot(guessed.se, true.se)
        assert guessed.se > 1.2 * true.se


def test_whole_pages_of_a_foreign_log_are_refused() -> None:
    world = World()
    records: list[Record] = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=3, pages_each=1, eps=0.2):
        records += its_records
    log = dataset.read(lines(records), LIKES)
    foreign = [dataclasses.replace(batch, pages=()) for batch in log.batches()]
    with pytest.raises(ValueError, match="evaluate a foreign log decision by decision"):
        read_slates(foreign, UniformPolicy(), cross_fit(log))
