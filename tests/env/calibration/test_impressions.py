import numpy as np
import pytest

from env.calibration.impressions import ImpressionTable
from env.reward import is_long_view, is_valid_play
from env.vocabulary import Bools, Floats, Ints


def impressions(play_s: Floats, duration_s: Floats, surface: Ints | None = None) -> ImpressionTable:
    n = len(play_s)
    zeros: Ints = np.zeros(n, dtype=np.int64)
    never: Bools = np.zeros(n, dtype=np.bool_)
    return ImpressionTable(
        user=zeros,
        item=zeros,
        at_ms=np.arange(n, dtype=np.int64),
        surface=zeros if surface is None else surface,
        play_s=play_s,
        duration_s=duration_s,
        like=never,
        comment=never,
        share=never,
        follow=never,
        not_interested=never,
    )


def test_plays_are_valid_and_long_as_the_reward_defines_them() -> None:
    play_s, duration_s = (
        grid.ravel()
        for grid in np.meshgrid(
            [0.0, 4.9, 5.0, 7.0, 7.1, 12.0, 17.9, 18.0, 60.0], [0.0, 5.0, 7.0, 12.0, 18.0, 60.0]
        )
    )
    shown = impressions(play_s, duration_s)
    pairs = list(zip(play_s.tolist(), duration_s.tolist(), strict=True))
    assert shown.valid_play().tolist() == [is_valid_play(w, d) for w, d in pairs]
    assert shown.long_view().tolist() == [is_long_view(w, d) for w, d in pairs]


def test_surfaces_where_most_cards_were_never_opened_are_left_out() -> None:
    surface = np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)
    shown = impressions(np.array([0.0, 0.0, 9.0, 0.0, 3.0, 9.0]), np.full(6, 20.0), surface)
    assert shown.on_full_screen().surface.tolist() == [1, 1, 1]


def test_time_splits_impressions_without_loss() -> None:
    shown = impressions(np.ones(10), np.ones(10))
    assert (len(shown.before(4)), len(shown.since(4))) == (4, 6)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"duration_s: expected shape \(3,\), got \(2,\)"):
        impressions(np.ones(3), np.ones(2))
