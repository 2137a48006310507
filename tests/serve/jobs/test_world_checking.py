from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from env.twin.checks import compare_with_rollouts
from env.world.presets import load
from serve.errors import JobError
from serve.jobs.check_world import Sizes, WorldChecks, check_world

SEED = 3
SMALL = Sizes(cards=1, twins=60, clickers=100, clicked_cards=80, clicked_days=20)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep BLAS from splitting small matrices over threads, which a busy machine pays for."""
    with threadpool_limits(1, user_api="blas"):
        yield


def _nobody_looks(_: int) -> None:
    pass


@pytest.fixture(scope="module")
def checked() -> WorldChecks:
    return check_world(load("daily"), SEED, SMALL, _nobody_looks)


def test_all_kinds_of_checks_have_rows(checked: WorldChecks) -> None:
    groups = [row.group for row in checked.checks]
    assert groups == sorted(groups)
    assert set(groups) == {"V1", "V2", "V3", "V4", "V5", "V6"}
    assert checked.survival[0] == 1.0


def test_what_does_not_hang_on_the_size_passes(checked: WorldChecks) -> None:
    off = {row.name for row in checked.checks if not row.passed and row.group not in ("V1", "V6")}
    assert off == set()
    often = {"valid_play", "long_view", "ln watch, W1", "watch mean, s", "session, cards"}
    assert not often & {row.name for row in checked.checks if not row.passed}


def test_changes_of_the_twin_that_are_not_judged_are_told(checked: WorldChecks) -> None:
    told = [row for row in checked.checks if row.verdict == "unjudged"]
    assert len(told) == 10
    assert {row.group for row in told} == {"V5"}
    assert min(row.value for row in told) < 0.6
    assert all(row.passed for row in told)


def test_the_twin_is_rolled_out_from_the_seed(checked: WorldChecks) -> None:
    found = [row.value for row in checked.checks if row.group == "V3"]
    assert found == [row.z for row in compare_with_rollouts(SMALL.twins, SEED)]


def test_a_world_passes_only_if_every_row_does(checked: WorldChecks) -> None:
    assert checked.passed == all(row.verdict != "fail" for row in checked.checks)


def test_a_world_without_moments_is_refused() -> None:
    with pytest.raises(JobError, match="rapid was made from no moments"):
        check_world(load("rapid"), 1, SMALL, _nobody_looks)
    published = replace(load("rapid"), moments=load("daily").moments, laws="kuaisim")
    with pytest.raises(JobError, match="follows other laws"):
        check_world(published, 1, SMALL, _nobody_looks)
