"""The reference learns tastes as its docstring says, and knows everybody's mood meanwhile."""

import msgspec
import numpy as np
import pytest
from small_worlds import PRESET

from env.vocabulary import Floats
from serve.config import Config
from tests.studies.fair_start.newcomers import Guessed, ReferenceStage
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.world import ServedWorld, WorldSize

N_PEOPLE = 120


class Watched(ReferenceStage):
    """Keeps what the reference took users' moods to be at the end of a page."""

    moods: Guessed

    def _learn(self, shown: Shown, before: Guessed) -> None:
        super()._learn(shown, before)
        self.moods = before


@pytest.fixture(scope="module")
def world() -> ServedWorld:
    still = msgspec.structs.replace(PRESET.population, drift=0.0)
    preset = msgspec.structs.replace(PRESET, population=still)
    size = WorldSize(users=60, shard=20, page=5, items=600)
    world = ServedWorld(size, preset=preset, seed=1, config=Config())
    world.run(600)
    return world


def squared_error(stage: ReferenceStage, taste: Floats) -> tuple[float, float]:
    """Return how far a guess is off by what is believed, with the error of that; 1: as believed."""
    stay = np.flatnonzero(stage.shard.life == 0)
    off = (stage.shard.swiping.crowd.taste - taste)[:, stay]
    squares = np.einsum("di,ide,ei->i", off, stage.precision[stay], off) / len(off)
    return float(squares.mean()), float(np.sqrt(2.0 / off.size))


def test_what_it_believes_of_tastes_is_as_far_off_as_it_says(world: ServedWorld) -> None:
    stage = ReferenceStage(world, N_PEOPLE)
    unknown = stage.taste.copy()
    assert not unknown.any()
    stage.swipe(40)
    error, se = squared_error(stage, stage.taste)
    assert error == pytest.approx(1.0, abs=3.0 * se)
    assert squared_error(stage, unknown)[0] > 1.0 + 3.0 * se, "who has learned nothing is surprised"


def test_it_knows_the_mood_in_which_each_card_of_a_page_is_seen(world: ServedWorld) -> None:
    stage = Watched(world, N_PEOPLE)
    stage.swipe(1)
    users, crowd = stage.shard.users, stage.shard.swiping.crowd
    stay = np.array([k for k, p in enumerate(users) if p.n_sessions == 1 and p.n_pages == 1])
    assert len(stay) > N_PEOPLE // 4
    np.testing.assert_allclose(stage.moods.satiation[stay], crowd.satiation[stay])
    np.testing.assert_allclose(stage.moods.load[stay], crowd.load[stay])
