"""What a scene plays, as popularity and as an interest: levels that borrow from the wider ones."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from env.items import popularity
from env.items.popularity import PRIOR_PLAYS, Popular, Popularity, Segments, segment_names
from env.vocabulary import Float32s, Scene

N = 6
THAI = Scene(0, "TH", "th")
NEW = Scene(0, "TH", "th", cohort="new")
SENT = Scene(0, "TH", "th", cohort="new", referrer="friend")
VECTORS = np.eye(N, 32, dtype=np.float32)


def made(plays: Mapping[Scene, Mapping[int, float]]) -> Popularity:
    """Return the popularity after these plays of items by index; row i + 1 is item i's."""
    segments, everywhere = Segments(), np.zeros(N)
    for scene, items in plays.items():
        for item, weight in items.items():
            segments.fold(scene, item + 1, weight)
            everywhere[item] += weight
    index_of_row = np.arange(-1, N)
    return Popularity(Popular.of(everywhere), PRIOR_PLAYS, segments.columns(), index_of_row)


def share(popular: Popular, item: int) -> float:
    return float(popular.plays[item] / popular.plays.sum())


def lengths(values: Float32s) -> float:
    return float(np.linalg.norm(values))


def test_a_newcomer_has_the_popularity_of_newcomers_and_of_what_sent_them() -> None:
    found = made({THAI: {0: 900.0}, NEW: {1: 400.0}, SENT: {2: 300.0}})

    assert found.here(THAI).ranking[0] == 0
    assert found.here(NEW).ranking[0] == 1
    assert found.here(SENT).ranking[0] == 2
    stranger = Scene(0, "TH", "th", cohort="new", referrer="an address never heard of")
    assert found.here(stranger).ranking[0] == 1
    assert share(found.here(SENT), 0) > 0.0


def test_a_few_plays_of_a_narrow_segment_hardly_move_it() -> None:
    many, few = made({THAI: {0: 900.0}, SENT: {2: 300.0}}), made({THAI: {0: 900.0}, SENT: {2: 3.0}})

    assert share(few.here(SENT), 2) < 0.2 < 0.7 < share(many.here(SENT), 2)


def test_the_interest_of_a_scene_is_the_mean_vector_of_its_popularity() -> None:
    found = made({THAI: {0: 900.0, 3: 100.0}, NEW: {1: 400.0}, SENT: {2: 50.0}})
    total = found.everywhere.plays.sum()
    around = (total / (total + PRIOR_PLAYS)) * found.everywhere.plays / total

    for scene in (Scene(0, "GB"), THAI, NEW, SENT):
        blended = found.here(scene).plays
        filled = found.interest(scene, VECTORS)
        assert filled.dtype == np.float32
        assert lengths(filled) <= 1.0
        if scene.country == "GB":  # where nobody ever was
            assert filled[:N] == pytest.approx(around, rel=1e-5)
        else:  # what everywhere borrowed from nothing is missing
            expected = blended / blended.sum()
            assert (filled[:N] <= expected * (1.0 + 1e-5)).all()
            assert filled[:N] == pytest.approx(expected, abs=0.06)


def test_without_plays_there_is_no_interest_and_with_few_a_faint_one() -> None:
    assert not made({}).interest(THAI, VECTORS).any()
    faint = made({THAI: {0: 1.0}}).interest(Scene(0, "GB"), VECTORS)
    assert faint[:N] == pytest.approx([1.0 / (1.0 + PRIOR_PLAYS), 0, 0, 0, 0, 0], rel=1e-5)


def test_an_interest_is_remembered_for_all_scenes_of_the_same_segments() -> None:
    found = made({THAI: {0: 900.0}, NEW: {1: 400.0}})
    first = found.interest(NEW, VECTORS)

    assert found.interest(Scene(5, "TH", "th", cohort="new", weekday=3), VECTORS) is first
    assert found.interest(THAI, VECTORS) is not first


@pytest.mark.parametrize("scenes", [[THAI, NEW, SENT], [SENT, NEW, THAI]])
def test_an_interest_does_not_depend_on_what_was_asked_before(scenes: list[Scene]) -> None:
    plays = {THAI: {0: 900.0}, NEW: {1: 400.0}, SENT: {2: 50.0}}
    found = made(plays)
    for scene in scenes:
        assert np.array_equal(found.interest(scene, VECTORS), made(plays).interest(scene, VECTORS))


def test_what_an_earlier_version_was_asked_for_is_worked_out_beforehand() -> None:
    plays = {THAI: {0: 900.0}, NEW: {1: 400.0}, SENT: {2: 300.0}}
    before, after = made(plays), made({**plays, NEW: {3: 500.0}})
    for scene in (THAI, NEW):
        before.here(scene)
    before.interest(SENT, VECTORS)
    after.prepare(before, VECTORS)
    here, interests = after.asked_for()
    assert here == before.asked_for()[0]
    assert set(interests) == set(before.asked_for()[1])
    anew = made({**plays, NEW: {3: 500.0}})
    for scene in (THAI, NEW, SENT):
        assert np.array_equal(after.here(scene).ranking, anew.here(scene).ranking)
        assert np.array_equal(after.interest(scene, VECTORS), anew.interest(scene, VECTORS))


def test_what_is_remembered_is_bounded_and_comes_out_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(popularity, "MAX_INTERESTS", 5)
    monkeypatch.setattr(popularity, "MAX_REMEMBERED", 0)
    markets = [Scene(0, f"C{i}") for i in range(70)]
    found = made({scene: {i % N: 10.0 + i} for i, scene in enumerate(markets)})
    interests = [found.interest(scene, VECTORS) for scene in markets]
    popular = [found.here(scene) for scene in markets]

    assert found.interest(markets[-1], VECTORS) is interests[-1]
    assert found.here(markets[-1]) is popular[-1]
    for k in (0, 30, 60):
        again, here = found.interest(markets[k], VECTORS), found.here(markets[k])
        assert again is not interests[k]
        assert again.tobytes() == interests[k].tobytes()
        assert k > 32 or here is not popular[k]
        assert here.plays.tobytes() == popular[k].plays.tobytes()


def test_plays_of_what_is_not_in_the_catalogue_count_for_nothing() -> None:
    segments = Segments()
    for row in (1, 2):
        segments.fold(THAI, row, 300.0)
    everywhere = np.array([300.0, 0, 0, 0, 0, 0])
    gone = Popularity(
        Popular.of(everywhere), PRIOR_PLAYS, segments.columns(), np.array([-1, 0, -1])
    )

    assert lengths(gone.interest(THAI, VECTORS)) <= 1.0
    assert np.flatnonzero(gone.interest(THAI, VECTORS)).tolist() == [0]


def test_a_scene_costs_its_own_plays_and_ranks_as_all_of_them_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(popularity, "_LEAST_HEAD", 3)
    rng = np.random.default_rng(4)
    n = 400
    everywhere = rng.exponential(20.0, n) * (rng.random(n) < 0.7)
    segments = Segments()
    for name, scene in (("thai", THAI), ("new", NEW)):
        for item in rng.choice(n, 60, replace=False):
            weight = float(rng.exponential(30.0 if name == "thai" else 5.0))
            segments.fold(scene, int(item) + 1, weight)
            everywhere[item] += weight
    found = Popularity(Popular.of(everywhere), PRIOR_PLAYS, segments.columns(), np.arange(-1, n))
    dense = everywhere
    for name in segment_names(NEW):
        rows, weights = segments.columns()[name]
        dense = dense * (PRIOR_PLAYS / dense.sum())
        dense[rows - 1] += weights
    here = found.here(NEW)
    assert here.plays == pytest.approx(dense, rel=1e-12)
    assert here.highest == pytest.approx(dense.max(), rel=1e-12)
    ranked = dense[here.ranking]
    assert sorted(here.ranking.tolist()) == np.flatnonzero(dense).tolist()
    assert (np.diff(ranked) <= 0.0).all()
    for k in (1, 4, 10, 90, 1_000):
        again = replace(here)
        assert again.head(k).tolist() == here.ranking[:k].tolist()
    for part in (1.0, 0.3, 0.02, 0.0):
        wanted = rng.random(n + 7) < part
        expected = here.ranking[wanted[here.ranking]]
        anew = replace(here)
        n_kept = len(anew._head)
        for k in (0, 1, 5, 60, 1_000):
            assert anew.first_of(wanted, k).tolist() == expected[:k].tolist()
        assert len(anew._head) == n_kept < len(here.ranking)
    assert here.at(np.array([n, n + 5])).tolist() == [0.0, 0.0], "what came later was not played"
