"""Plays by segment: nested by what a scene says, bounded, the same however interrupted."""

import numpy as np
import pytest

from env.columns.schema import bucket_of
from env.items.popularity import N_BUCKETS, Segments, segment_names
from env.vocabulary import Scene

NEW, AD = bucket_of("cohort", "new", N_BUCKETS), bucket_of("referrer", "ad", N_BUCKETS)


def played(plays: range, *, max_cells: int, start: Segments | None = None) -> Segments:
    """Return the segments after these of 2,000 plays, which weigh more and more."""
    segments = Segments(max_cells) if start is None else start
    draws = np.random.default_rng(5).integers(0, (40, 9, 24), size=(2000, 3)).tolist()
    for k in plays:
        row, country, hour = draws[k]
        scene = Scene(0, country=f"C{country}", device="phone", hour=hour)
        segments.fold(scene, row, 1.0 + k / 2000)
    return segments


@pytest.mark.parametrize(
    ("scene", "names"),
    [
        (
            Scene(0, "TH", "th", "phone", hour=23),
            ["TH", "TH/th", "TH/th///phone", "TH/th///phone/3"],
        ),
        (Scene(0, "TH", device="fridge", hour=5), ["TH", "TH/////0"]),
        (Scene(0, "", "en", "tv", hour=6), ["/en", "/en///tv", "/en///tv/1"]),
        (
            Scene(0, "TH", device="tv", cohort="new", referrer="ad"),
            ["TH", f"TH//{NEW}", f"TH//{NEW}/{AD}", f"TH//{NEW}/{AD}/tv", f"TH//{NEW}/{AD}/tv/0"],
        ),
        (Scene(0, "TH", referrer="ad"), ["TH", f"TH///{AD}", f"TH///{AD}//0"]),
    ],
)
def test_each_segment_lies_in_the_one_before(scene: Scene, names: list[str]) -> None:
    assert list(segment_names(scene)) == names


def test_a_play_counts_in_every_segment_of_its_scene_and_in_no_other() -> None:
    segments, evening = Segments(), Scene(0, "TH", "th", hour=20)
    segments.fold(evening, 7, 1.0)
    segments.fold(Scene(0, "TH", "en", hour=20), 7, 0.5)
    plays = {name: dict(zip(*columns, strict=True)) for name, columns in segments.columns().items()}
    assert plays == {
        "TH": {7: 1.5},
        "TH/en": {7: 0.5},
        "TH/en////3": {7: 0.5},
        "TH/th": {7: 1.0},
        "TH/th////3": {7: 1.0},
    }
    assert len(segments) == 5


def test_addresses_that_differ_with_each_visit_make_no_segment_a_visit() -> None:
    scenes = [Scene(0, "TH", referrer=f"https://x.example/?id={i}") for i in range(1000)]
    names = {segment_names(scene)[1] for scene in scenes}
    assert N_BUCKETS // 2 < len(names) <= N_BUCKETS


def test_over_the_bound_the_heaviest_half_stays() -> None:
    bound = 200
    segments = played(range(2000), max_cells=bound)
    everything = played(range(2000), max_cells=10**6)
    assert len(everything) > 4 * bound
    assert bound // 2 <= len(segments) <= bound
    assert len(segments) == sum(len(rows) for rows, _ in segments.columns().values())
    heaviest = max(everything.columns()["C3"].weights)
    assert max(segments.columns()["C3"].weights) > 0.5 * heaviest


@pytest.mark.parametrize("stop", [0, 1, 137, 1999, 2000])
def test_the_same_plays_give_the_same_state_wherever_they_are_interrupted(stop: int) -> None:
    whole = played(range(2000), max_cells=150)
    before = played(range(stop), max_cells=150)
    restored = Segments.from_stored(before.to_stored(), max_cells=150)
    assert len(restored) == len(before)
    resumed = played(range(stop, 2000), max_cells=150, start=restored)
    assert resumed.to_stored() == whole.to_stored()


def test_what_fades_to_nothing_is_dropped() -> None:
    segments = Segments()
    segments.fold(Scene(0, "GB"), 1, 1.0)
    segments.fold(Scene(0, "GB"), 2, 1e9)
    segments.fade(2.0**-30)
    assert {name: rows.tolist() for name, (rows, _) in segments.columns().items()} == {
        "GB": [2],
        "GB/////0": [2],
    }
    assert len(segments) == 2
    segments.fade(0.0)
    assert segments.columns() == {}


def test_what_was_read_is_not_moved_by_later_plays() -> None:
    segments = Segments()
    segments.fold(Scene(0, "GB"), 1, 1.0)
    before = segments.columns()["GB"]
    restored = Segments.from_stored(segments.to_stored())
    columns = restored.columns()["GB"]
    for each in (segments, restored):
        each.fold(Scene(0, "GB"), 1, 1.0)
    assert before.weights.tolist() == columns.weights.tolist() == [1.0]
    assert restored.columns()["GB"].weights.tolist() == [2.0]
