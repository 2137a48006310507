import dataclasses

import numpy as np
from msgspec.structs import replace

from env.report.played_lives import EvaluationRollouts, EvaluationUsers, evaluation_rollouts
from env.world.presets import Preset, load
from policies.training.rankings import RandomRanking, WeightedRanking, named_weights

RAPID = load("rapid")
PLAYED, UNBAITED = (
    WeightedRanking(named_weights(valid_play=1.0)),
    WeightedRanking(named_weights(bait_guess=-1.0)),
)


def loyal(preset: Preset) -> Preset:
    """Return a world whose users are back on the next day, always."""
    classes = (1.0 - 1e-12, 1.0 - 1e-12)
    return replace(preset, moods=replace(preset.moods, return_classes=classes, churn=0.0))


def test_who_is_back_every_day_has_as_many_active_days_as_there_are_days() -> None:
    lives = evaluation_rollouts(
        loyal(RAPID), RandomRanking().open(0), EvaluationUsers(5, 8, 2, days=40)
    )
    assert lives.active_days.tolist() == [40.0] * 16
    assert lives.day_30.tolist() == [1.0] * 16
    assert lives.churned.tolist() == [0.0] * 16


def test_a_life_hangs_neither_on_who_lives_beside_it_nor_on_how_many_come_after() -> None:
    few = evaluation_rollouts(RAPID, PLAYED.open(0), EvaluationUsers(5, 4, 1, days=20))
    many = evaluation_rollouts(RAPID, PLAYED.open(0), EvaluationUsers(5, 8, 2, days=20))
    for field in dataclasses.fields(EvaluationRollouts):
        assert getattr(few, field.name).tolist() == getattr(many, field.name)[:4].tolist()


def test_places_that_are_named_twice_live_the_same_life_twice() -> None:
    lives = evaluation_rollouts(
        RAPID, PLAYED.open(0), EvaluationUsers(0, 4, 1, days=20), np.array([7, 8, 7, 8])
    )
    assert lives.cards[:2].tolist() == lives.cards[2:].tolist()
