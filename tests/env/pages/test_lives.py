"""Lives as arrays: what they are worth, what a policy would have done, parts and sums of them."""

import dataclasses

import numpy as np
import pytest
from logged_lives import K, draw_lives

from env.interface import slot_pmf
from env.pages.lives import NEVER, NO_PAGE, LifeReward, join_lives
from env.vocabulary import Bools, Context, Floats, SlotRule
from policies.explorers import Softmax

LIVES = draw_lives(5, seed=3)


class _Drawing:
    def __init__(self) -> None:
        self.name = "softmax@1"
        self.explorer: dict[str, object] = {}

    def score(self, context: Context) -> Floats:
        raise AssertionError("nobody asks")

    def explore(self, scores: Floats, mask: Bools) -> Floats:
        return Softmax(1.0).pmf(scores, mask)


def test_a_return_is_paid_at_the_sessions_end_by_its_gap_and_none_is_worth_nothing() -> None:
    gaps = np.where(LIVES.leaves, 3.0, 0.0)
    gaps[np.flatnonzero(LIVES.leaves)[-1]] = NEVER
    lives = dataclasses.replace(LIVES, gap_days=gaps)
    reward = LifeReward(return_worth=10.0, day_discount=0.9)
    paid = reward.rewards(lives) - lives.reward
    ends = np.flatnonzero(lives.leaves)
    np.testing.assert_allclose(paid[ends[:-1]], 10.0 * 0.9**3)
    assert paid[ends[-1]] == 0.0
    assert (np.delete(paid, ends) == 0.0).all()
    discounts = reward.discounts(lives)
    assert discounts[ends[-1]] == 0.0
    assert (np.delete(discounts, ends) == 1.0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"day_discount": 0.0}, "day_discount must be in"),
        ({"day_discount": 1.1}, "day_discount must be in"),
        ({"return_worth": -1.0}, "return_worth must be at least 0"),
        ({"window_days": 0}, "window_days must be at least 1"),
    ],
)
def test_a_reward_that_is_none_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LifeReward(**wrong)  # type: ignore[arg-type]


def test_the_pmf_of_logits_is_that_of_a_page_slot_with_its_mask_and_floor() -> None:
    generator = np.random.default_rng(1)
    n = len(LIVES)
    mask = generator.random((n, K)) < 0.7
    mask[np.arange(n), LIVES.action] = True
    floor = mask & (generator.random((n, K)) < 0.5)
    floor = np.where(floor.any(axis=1, keepdims=True), floor, mask)
    lives = dataclasses.replace(LIVES, mask=mask, floor=floor, eps=np.full(len(LIVES.eps), 0.2))
    scores = generator.normal(size=(len(LIVES.eps), K))
    pmfs = lives.pmfs(scores)
    everything = np.ones(K, dtype=np.bool_)
    for step in range(n):
        rule = SlotRule(mask[step], floor[step])
        expected = slot_pmf(_Drawing(), scores[lives.page[step]], rule, everything, 0.2)
        np.testing.assert_allclose(pmfs[step], expected, atol=1e-12)


def test_lives_that_are_chosen_keep_their_steps_and_pages() -> None:
    last_page = np.array([NO_PAGE, 0, NO_PAGE, NO_PAGE, 1])  # a page of another user's will do
    lives = dataclasses.replace(LIVES, last_page=last_page)
    chosen = np.array([False, True, False, False, True])
    some = lives.select(chosen)
    steps = chosen[lives.life]
    np.testing.assert_array_equal(some.user, lives.user[chosen])
    np.testing.assert_array_equal(some.reward, lives.reward[steps])
    np.testing.assert_array_equal(some.rows[some.page], lives.rows[lives.page[steps]])
    np.testing.assert_array_equal(some.rows[some.last_page], lives.rows[last_page[chosen]])
    np.testing.assert_array_equal(np.unique(some.life), [0, 1])
    assert len(some.eps) == len(np.union1d(some.page, some.last_page))


def test_parts_joined_again_are_the_whole() -> None:
    chosen = np.array([True, True, False, False, False])
    whole = join_lives([LIVES.select(chosen), LIVES.select(~chosen)])
    np.testing.assert_array_equal(whole.reward, LIVES.reward)
    np.testing.assert_array_equal(whole.rows[whole.page], LIVES.rows[LIVES.page])
    np.testing.assert_array_equal(whole.life, LIVES.life)
    np.testing.assert_array_equal(whole.session, LIVES.session)
    with pytest.raises(ValueError, match="expected lives to join"):
        join_lives([])


def test_what_follows_a_step_is_the_next_one_but_at_a_lifes_end() -> None:
    values = np.arange(len(LIVES), dtype=np.float64)
    after = LIVES.after(values, np.full(LIVES.n_lives, -1.0))
    last = np.append(LIVES.first[1:], len(LIVES)) - 1
    np.testing.assert_array_equal(after[last], -1.0)
    np.testing.assert_array_equal(np.delete(after, last), np.delete(values + 1.0, last))
