"""The reward: linear in what happened, KuaiRand's two thresholds, censoring."""

from itertools import product

import msgspec
import pytest

from env.feedback import REACTIONS
from env.reward import REWARD_VERSION, Reward, is_censored, is_long_view, is_valid_play
from env.vocabulary import Feedback

NAMES = (
    "like",
    "comment",
    "share",
    "follow",
    "not_interested",
    "product_click",
)


@pytest.mark.parametrize(
    ("dwell_s", "duration_s", "valid", "long"),
    [
        (0.0, 5.0, False, False),
        (4.9, 5.0, False, False),
        (5.0, 5.0, True, True),
        (7.0, 7.0, True, True),
        (7.0, 7.5, False, False),
        (7.1, 7.5, True, False),
        (7.5, 7.5, True, True),
        (17.9, 18.0, True, False),
        (18.0, 18.0, True, True),
        (17.9, 90.0, True, False),
        (18.0, 90.0, True, True),
        (7.0, 0.0, False, False),
        (7.1, 0.0, True, False),
        (18.0, 0.0, True, True),
    ],
)
def test_the_thresholds_are_those_of_kuairand(
    dwell_s: float, duration_s: float, valid: bool, long: bool
) -> None:
    assert is_valid_play(dwell_s, duration_s) == valid
    assert is_long_view(dwell_s, duration_s) == long


def test_a_long_view_is_always_a_valid_play() -> None:
    lengths = [0.0, 0.5, 6.9, 7.0, 7.1, 17.9, 18.0, 18.1, 60.0, 600.0]
    for dwell_s, duration_s in product(lengths, lengths):
        assert is_valid_play(dwell_s, duration_s) >= is_long_view(dwell_s, duration_s)


@pytest.mark.parametrize("name", NAMES)
def test_each_event_adds_its_own_weight(name: str) -> None:
    reward = Reward(
        like=0.1, comment=0.2, share=0.3, follow=0.4, not_interested=-0.5, product_click=0.6
    )
    watched = Feedback(seen=True, left=True, dwell_s=20.0)

    with_event = reward.of(msgspec.structs.replace(watched, **{name: True}), 60.0)

    assert with_event - reward.of(watched, 60.0) == pytest.approx(getattr(reward, name))
    assert reward.of(watched, 60.0) == reward.valid_play + reward.long_view


def test_every_reward_lies_between_low_and_high() -> None:
    reward = Reward(like=-0.25)
    rewards = [
        reward.of(Feedback(True, True, dwell_s, **dict(zip(REACTIONS, did, strict=True))), 60.0)  # type: ignore[arg-type]
        for dwell_s in (0.0, 10.0, 20.0)
        for did in product((False, True), repeat=6)
    ]

    assert min(rewards) == reward.low()
    assert reward.high() == pytest.approx(max(rewards))


def test_nothing_seen_to_the_end_is_worth_nothing() -> None:
    assert Reward().of(Feedback(seen=True, left=True), 30.0) == 0.0


@pytest.mark.parametrize(
    ("feedback", "duration_s", "censored"),
    [
        (Feedback(seen=True), 30.0, True),
        (Feedback(seen=True, dwell_s=10.0), 30.0, True),
        (Feedback(seen=True, dwell_s=10.0, like=True), 30.0, True),
        (Feedback(seen=True, dwell_s=18.0), 30.0, False),
        (Feedback(seen=True, dwell_s=5.0), 5.0, False),
        (Feedback(seen=True, left=True), 30.0, False),
    ],
)
def test_a_card_is_censored_until_more_dwell_could_change_nothing(
    feedback: Feedback, duration_s: float, censored: bool
) -> None:
    assert is_censored(feedback, duration_s) == censored


def test_a_reward_is_versioned_and_refuses_unknown_weights() -> None:
    assert Reward().version == REWARD_VERSION
    with pytest.raises(msgspec.ValidationError, match="smile"):
        msgspec.convert({"smile": 1.0}, Reward)
