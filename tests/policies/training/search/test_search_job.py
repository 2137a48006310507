"""Trainings by search, small: killed and resumed, seeded, refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.columns.schema import N_ACTION, N_SHARED
from env.world.presets import load
from policies.training.search.job import SearchResult, train_by_search
from policies.training.search.settings import SearchTrainingArgs
from policies.training.settings import RetentionArgs
from policies.training.training_folder import keep_args

ARGS = SearchTrainingArgs(
    "rapid",
    n_candidates=6,
    columns="feed",
    seed=3,
    n_users=16,
    n_turns=24,
    n_judged=16,
    judged_days=5,
    days=3,
    n_generations=3,
)
Told = tuple[str, int, int]


class Killed(Exception):  # noqa: N818
    """What stands for a kill."""


def train_until(last: Told | None, folder: Path | None) -> tuple[list[Told], SearchResult | None]:
    """Return what a training told, and what came of it if it was not ended at `last`."""
    told: list[Told] = []

    def advance(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if told[-1] == last:
            raise Killed

    try:
        return told, train_by_search(ARGS, folder=folder, advance=advance)
    except Killed:
        return told, None


def test_a_training_that_was_ended_between_any_stages_comes_to_the_same_ranker(
    tmp_path: Path,
) -> None:
    _, straight = train_until(None, None)
    assert straight is not None
    assert (straight.ranker.args.n_user, straight.ranker.args.n_item) == (N_SHARED, N_ACTION)
    train_until(("tune", 1, 1), tmp_path)
    second, _ = train_until(("search", 2, 3), tmp_path)
    assert second == [("tune", 1, 1), ("search", 1, 3), ("search", 2, 3)]
    third, _ = train_until(("clone", 0, 1), tmp_path)
    assert third == [("tune", 1, 1), ("search", 3, 3), ("clone", 0, 1)]
    last, resumed = train_until(None, tmp_path)
    assert last == [("tune", 1, 1), ("clone", 0, 1), ("clone", 1, 1)]
    assert resumed is not None
    assert resumed.weights == straight.weights != straight.myopic
    assert resumed.ranker.to_bytes() == straight.ranker.to_bytes()


def test_another_seed_comes_to_another_ranking() -> None:
    first, second = (
        train_by_search(msgspec.structs.replace(ARGS, seed=seed, n_generations=1)).weights.weights
        for seed in (0, 1)
    )
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (msgspec.structs.replace(ARGS, seed=4), r"of other arguments \(seed 4, not 3\)"),
        (RetentionArgs(), "holds a training of another kind"),
    ],
)
def test_a_folder_of_another_training_is_refused(
    tmp_path: Path, held: msgspec.Struct, message: str
) -> None:
    keep_args(tmp_path, held)
    with pytest.raises(ValueError, match=message):
        train_by_search(ARGS, folder=tmp_path)


def test_a_preset_that_was_fitted_anew_in_its_place_is_another_world(tmp_path: Path) -> None:
    preset, folder = tmp_path / "fitted.json", tmp_path / "training"
    preset.write_bytes(load("rapid").to_json())
    args = msgspec.structs.replace(ARGS, preset=str(preset))
    with pytest.raises(Killed):
        train_by_search(args, folder=folder, advance=_kill)
    preset.write_bytes(load("daily").to_json())
    with pytest.raises(ValueError, match="in a world of other constants"):
        train_by_search(args, folder=folder)


def _kill(stage: str, done: int, total: int) -> None:
    raise Killed


def test_ppo_does_not_go_on_with_a_search(tmp_path: Path) -> None:
    keep_args(tmp_path, ARGS)
    with pytest.raises(ValueError, match=r"another kind .* begun in, search or ppo"):
        keep_args(tmp_path, RetentionArgs())


@pytest.mark.parametrize("name", ["n_users", "n_turns", "days", "n_generations"])
def test_what_cannot_be_played_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected {name} of at least 1, got 0"):
        msgspec.structs.replace(ARGS, **{name: 0})
