"""The study of an insistent user: a short version, over HTTP, and its figures."""

import math

import pytest

from serve.config import Config
from tests.studies.person.crowd import CrowdSize, combined, crowd_ratio
from tests.studies.person.insistent import InsistentSize, run_insistent
from tests.studies.person.newcomers import distinct_in_ten, in_ten
from tests.studies.person.settings import without_following

NO_CROWD = CrowdSize(seeds=0)


@pytest.mark.slow
def test_the_feed_follows_a_newcomer_and_lets_go_as_it_did_not_before() -> None:
    size = InsistentSize(tries=6, learn=400, users=100, crowd=NO_CROWD)
    told: list[str] = []
    result = run_insistent(
        size,
        seed=1,
        config=Config(),
        compare=True,
        advance=lambda step, done, total: told.append(step),
    )
    before = result.before
    assert before is not None
    assert set(told) == {"the crowd"}
    held = (result.cards_21_30 + result.cards_51_60) / 2  # six users: one figure has an se of 1
    assert held >= 5.0
    assert held > (before.cards_21_30 + before.cards_51_60) / 2 + 2.0
    assert result.old_after_turn <= 2.0
    assert result.new_after_turn > result.old_after_turn
    assert result.two_topics_least >= 1.5
    assert result.distinct_without_preference >= 6.0
    for figures in (result, before):
        assert figures.redrawn_mismatches == 0
        assert figures.redrawn_decisions > 6 * 3 * 60
    assert result.reward_ratio is None


@pytest.mark.slow
def test_the_crowd_is_played_with_and_without_following() -> None:
    size = CrowdSize(seeds=1, cards=2_000, users=250)
    ratio = crowd_ratio(size, seed=1, config=Config(), advance=lambda *_: None)
    assert ratio is not None
    assert 0.8 < ratio.low < ratio.value < 1.25
    config = without_following(Config())
    same = crowd_ratio(size, seed=1, config=config, advance=lambda *_: None)
    assert same is not None
    assert same.value == 1.0


def test_the_bound_is_student_s_over_seeds() -> None:
    ratio = combined([0.0, 0.02], [1.0, 1.0])
    assert ratio.value == pytest.approx(math.exp(0.01))
    assert ratio.low == pytest.approx(math.exp(0.01 - 12.706 * 0.01))
    assert combined([0.0], [0.01]).low == pytest.approx(math.exp(-0.0196))


def test_shares_are_in_ten() -> None:
    assert in_ten(["a", "b", "a", "c"], "a") == 5.0
    assert distinct_in_ten([*"abcdefghij", *"aaaaabbbbb", *"ignored"]) == 6.0
