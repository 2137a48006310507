import dataclasses

import numpy as np
from msgspec.structs import replace

from env.played_lives import People, PlayedLives, play_lives
from env.presets import Preset, load
from policies.retention.rankings import (
    AtRandom,
    Weights,
    weigh,
)

RAPID = load("rapid")
PLAYED, UNBAITED = Weights(weigh(valid_play=1.0)), Weights(weigh(bait_guess=-1.0))


def loyal(preset: Preset) -> Preset:
    """Return a world whose people are back on the next day, always."""
    classes = (1.0 - 1e-12, 1.0 - 1e-12)
    return replace(preset, moods=replace(preset.moods, return_classes=classes, churn=0.0))


def test_who_is_back_every_day_has_as_many_active_days_as_there_are_days() -> None:
    lives = play_lives(loyal(RAPID), AtRandom().open(0), People(5, 8, 2, days=40))
    assert lives.active_days.tolist() == [40.0] * 16
    assert lives.day_30.tolist() == [1.0] * 16
    assert lives.churned.tolist() == [0.0] * 16


def test_a_life_hangs_neither_on_who_lives_beside_it_nor_on_how_many_come_after() -> None:
    few = play_lives(RAPID, PLAYED.open(0), People(5, 4, 1, days=20))
    many = play_lives(RAPID, PLAYED.open(0), People(5, 8, 2, days=20))
    for field in dataclasses.fields(PlayedLives):
        assert getattr(few, field.name).tolist() == getattr(many, field.name)[:4].tolist()


def test_places_that_are_named_twice_live_the_same_life_twice() -> None:
    lives = play_lives(RAPID, PLAYED.open(0), People(0, 4, 1, days=20), np.array([7, 8, 7, 8]))
    assert lives.cards[:2].tolist() == lives.cards[2:].tolist()
