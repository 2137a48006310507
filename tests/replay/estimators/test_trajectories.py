"""Estimators of episodes against hand calculation, enumerated episodes and a log of our own."""

import dataclasses
from itertools import product

import msgspec
import numpy as np
import pytest
from worlds import LIKES, World, lines

from env.records import Record
from env.vocabulary import Bools, Floats, SessionId
from policies.baselines import UniformPolicy, mixture_policy
from replay.estimators.trajectories import (
    StepValues,
    Trajectories,
    dr_rl,
    logged_return,
    pdis,
    wpdis,
)
from replay.evaluate.episodes import read_lives, read_sessions
from replay.evaluate.targets import PolicyTarget
from replay.join import dataset

N_STEPS = 3
TARGET = np.array([0.2, 0.8])  # of the two actions, at each step
ENDS = 1  # the action after which nothing follows, in half of its episodes


def trajectories(**changes: object) -> Trajectories:
    """Three episodes of two users, of 2, 1 and 3 steps."""
    values: dict[str, object] = {
        "user": np.array([0, 0, 1]),
        "episode": np.array([0, 0, 1, 2, 2, 2]),
        "reward": np.array([1.0, 2.0, 3.0, 1.0, 0.0, 4.0]),
        "propensity": np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        "target": np.array([1.0, 0.25, 0.5, 0.25, 1.0, 0.5]),
        "discount": np.array([0.9, 0.0, 0.0, 1.0, 0.5, 0.0]),
    }
    return Trajectories(**{**values, **changes})  # type: ignore[arg-type]


def values() -> StepValues:
    return StepValues(
        chosen=np.array([1.0, 2.0, 1.0, 2.0, 1.0, 3.0]),
        before=np.array([1.5, 1.0, 2.0, 1.0, 2.0, 2.5]),
        after=np.array([1.0, 9.0, 9.0, 2.0, 2.5, 9.0]),
    )


def test_weights_and_discounts_are_those_of_all_steps_up_to_one() -> None:
    log = trajectories()
    assert log.products(log.weights) == pytest.approx([2.0, 1.0, 1.0, 0.5, 1.0, 1.0])
    assert log.past_discounts == pytest.approx([1.0, 0.9, 1.0, 1.0, 1.0, 0.5])
    assert log.first.tolist() == [0, 2, 3]


def test_estimates_are_those_of_a_hand_calculation() -> None:
    assert logged_return(trajectories()).value == pytest.approx((2.8 + 3.0 + 3.0) / 3)
    assert pdis(trajectories()).value == pytest.approx((3.8 + 3.0 + 2.5) / 3)
    # An episode that is over keeps its weight: 2 + 1 + .5, then 1 + 1 + 1, then 1 + 1 + 1.
    expected = (2.0 + 3.0 + 0.5) / 3.5 + 1.8 / 3.0 + 2.0 / 3.0
    assert wpdis(trajectories()).value == pytest.approx(expected)


def test_dr_rl_is_the_recursion_from_the_last_step_back() -> None:
    log, model = trajectories(), values()
    starts = []
    for episode in range(3):
        value = 0.0
        for row in reversed(np.flatnonzero(log.episode == episode).tolist()):
            rest = log.reward[row] + log.discount[row] * value
            value = model.before[row] + log.weights[row] * (rest - model.chosen[row])
        starts.append(value)
    assert dr_rl(log, model).value == pytest.approx(np.mean(starts))


def test_an_episode_that_was_cut_goes_on_as_the_model_says() -> None:
    log = trajectories(discount=np.array([0.9, 0.0, 0.6, 1.0, 0.5, 0.0]))
    more = dr_rl(log, values()).value - dr_rl(trajectories(), values()).value
    assert more == pytest.approx(0.6 * 9.0 / 3)


def test_a_user_of_several_episodes_counts_as_one() -> None:
    log = trajectories()
    terms = np.array([3.8, 3.0, 2.5])
    by_user = np.array([terms[:2].sum() - 2 * terms.mean(), terms[2] - terms.mean()])
    assert pdis(log).se == pytest.approx(np.sqrt(2 * (by_user**2).sum()) / 3)


def every_episode() -> Trajectories:
    """Return each episode of a uniform logging policy as often as it expects.

    Action 1 earns more the more often it was taken, and ends an episode in every other case: what
    follows depends on all that came before, so no state but the whole past is Markov.
    """
    rows = []
    n_episodes = 0
    for actions in product((0, 1), repeat=N_STEPS):
        for goes_on in product((0, 1), repeat=N_STEPS):
            taken = 0
            for step, (action, on) in enumerate(zip(actions, goes_on, strict=True)):
                taken += action
                over = step == N_STEPS - 1 or (action == ENDS and not on)
                after = 0.0 if over else 0.9 - 0.2 * action
                rows.append((n_episodes, 0.3 + action * taken, TARGET[action], after))
                if over:
                    break
            n_episodes += 1
    episode, reward, target, discount = (np.array(column) for column in zip(*rows, strict=True))
    user, half = np.arange(n_episodes), np.full(len(rows), 0.5)
    return Trajectories(user, episode, reward, half, target, discount)


def exact_value(taken: int = 0, step: int = 0) -> float:
    """Return the target's value by recursion over all that can happen."""
    value = 0.0
    for action, chance in enumerate(TARGET.tolist()):
        reward = 0.3 + action * (taken + action)
        goes_on = 0.0 if step == N_STEPS - 1 else 0.5 if action == ENDS else 1.0
        rest = exact_value(taken + action, step + 1) if goes_on else 0.0
        value += chance * (reward + goes_on * (0.9 - 0.2 * action) * rest)
    return value


def test_pdis_and_dr_rl_expect_the_exact_value_whatever_the_model_says() -> None:
    log = every_episode()
    assert pdis(log).value == pytest.approx(exact_value(), abs=1e-12)
    by_action = np.array([0.7, -0.4])
    chosen = by_action[(log.target == TARGET[1]).astype(np.int64)]
    state = np.full(len(chosen), float(TARGET @ by_action))
    assert dr_rl(log, StepValues(chosen, state, state)).value == pytest.approx(
        exact_value(), abs=1e-12
    )


def test_wpdis_is_exact_where_the_mean_weights_are() -> None:
    log = every_episode()
    assert wpdis(log).value == pytest.approx(exact_value(), abs=1e-12)


def test_the_influence_of_wpdis_is_what_leaving_an_episode_out_changes() -> None:
    log = every_episode()
    repeated = tiled(log, 50)
    n = len(repeated)
    weighted = wpdis(repeated)
    # The jackknife's standard error over all distinct episodes is the clustered one.
    moves = [
        wpdis(kept(repeated, np.arange(n) != episode)).value - weighted.value
        for episode in range(len(log))
    ]
    jackknife = np.sqrt(50 * float(np.square(moves).sum()))
    assert weighted.se == pytest.approx(jackknife, rel=0.01)


def tiled(log: Trajectories, times: int) -> Trajectories:
    """Return the episodes so many times, each of its own user."""
    n = len(log)
    episode = np.concatenate([log.episode + n * i for i in range(times)])
    columns = (log.reward, log.propensity, log.target, log.discount)
    return Trajectories(
        np.arange(n * times), episode, *(np.tile(column, times) for column in columns)
    )


def kept(log: Trajectories, keep: Bools) -> Trajectories:
    """Return the episodes of a mask of shape (m,)."""
    rows = keep[log.episode]
    episode = (np.cumsum(keep) - 1)[log.episode[rows]]
    columns = (log.reward, log.propensity, log.target, log.discount)
    return Trajectories(log.user[keep], episode, *(column[rows] for column in columns))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episode": np.array([0, 1, 0, 1, 2, 2])}, "the one before or the next one, got 0 in row"),
        ({"episode": np.array([0, 0, 1, 1, 1, 1])}, "expected steps of 3 episodes, got 2"),
        ({"discount": np.full(6, 1.5)}, r"discount must be in \[0, 1\], got 1.5 in row 0"),
        ({"propensity": np.zeros(6)}, r"propensity must be in \(0, 1\], got 0.0 in row 0"),
        ({"reward": np.full(6, np.inf)}, "reward must be finite, got inf in row 0"),
        ({"target": np.ones(5)}, r"expected target of shape \(6,\), got \(5,\)"),
        ({"user": np.array([0, -1, 0])}, "user code must be at least 0, got -1 in row 1"),
    ],
)
def test_columns_that_are_no_episodes_are_refused(changes: dict[str, Floats], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trajectories(**changes)


def test_a_target_that_could_have_made_no_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="got none of 3 at step 0"):
        wpdis(trajectories(target=np.zeros(6)))


def made_log(seed: int, n_users: int = 40) -> tuple[World, dataset.Dataset]:
    world = World(rng=np.random.default_rng(seed), ended_share=1.0)
    records: list[Record] = list(world.items())
    for _, its_records in world.pages(UniformPolicy(), n_users=n_users, pages_each=3, eps=0.3):
        records += its_records
    return world, dataset.read(lines(records), LIKES)


def test_sessions_of_a_log_are_its_cards_in_order() -> None:
    _, log = made_log(4)
    own = read_sessions(log.batches(), PolicyTarget(UniformPolicy()))
    assert own.weights == pytest.approx(np.ones(len(log)))
    assert len(own) == 40  # the world gives each user one session
    assert own.discount.sum() == len(log) - 40
    assert pdis(own).value == pytest.approx(log.reward.sum() / 40)
    other = read_sessions(log.batches(), PolicyTarget(mixture_policy(0.3)))
    assert np.ptp(other.weights) > 0.1


def test_lives_of_a_log_are_discounted_by_the_days_between_sessions() -> None:
    _, log = made_log(8, n_users=1)
    days, names = (0, 0, 3), ("a", "a", "b")
    pages = tuple(
        msgspec.structs.replace(page, session=SessionId(name), at_ms=page.at_ms + 86_400_000 * day)
        for page, day, name in zip(log.pages, days, names, strict=True)
    )
    log = dataclasses.replace(log, pages=pages)
    lives = read_lives(log.batches(), PolicyTarget(UniformPolicy()), 0.9)
    assert len(lives) == 1
    within = lives.discount[lives.discount == 1.0]
    assert lives.discount[[-1]].tolist() == [0.0]
    assert sorted(set(lives.discount.tolist())) == pytest.approx([0.0, 0.9**3, 1.0])
    assert len(within) == len(log) - 2
    assert len(read_sessions(log.batches(), PolicyTarget(UniformPolicy()))) == 2
