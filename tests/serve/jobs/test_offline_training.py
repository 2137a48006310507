"""From a data folder's log to a ranker that is kept only if other users' lives speak for it."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from logged_lives import behaviour, draw_lives
from random_rankers import random_ranker

from env.pages.lives import LifeReward
from policies.ranker.ranker import Ranker, RetentionPolicy
from policies.training.offline.settings import OfflineArgs
from policies.training.training_folder import RANKER, keep_args
from replay.evaluate.gates import Gates
from serve.config import Config, DataSettings
from serve.errors import JobError
from serve.jobs.train_offline import (
    OfflineGate,
    Scored,
    are_held_out,
    judge,
    read_log,
    split,
    train_offline,
)
from serve.learn.rankers import list_rankers
from tests.studies.retention.offline import mediocre, write_log
from tests.studies.retention.offline_world import WorldArgs

pytestmark = pytest.mark.filterwarnings("ignore")  # RLlib's own, of which there are many
WORLD = WorldArgs(users=12, days=12, candidates=8, page=3)
ARGS = OfflineArgs(
    prior_passes=1,
    critic_passes=1,
    policy_passes=1,
    hidden=8,
    embed=4,
    minibatch=256,
)
LENIENT = OfflineGate(Gates(min_users=2, min_ess=1.0))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = Config(data=DataSettings(folder=str(tmp_path_factory.mktemp("data"))))
    write_log(config, WORLD, mediocre(1), 1)
    return config


def test_a_ranker_that_is_not_surely_better_is_not_written(config: Config, tmp_path: Path) -> None:
    result = train_offline(config, ARGS, tmp_path / "training")
    assert result.ranker is None
    assert any(refusal.startswith("users") for refusal in result.refusals)
    assert not (tmp_path / "training").exists()
    left = tmp_path / "left"
    keep_args(left, ARGS)
    random_ranker().to_file(left / RANKER)
    assert train_offline(config, ARGS, left).ranker is None
    assert [path.name for path in left.iterdir()] == ["training.json"]
    with pytest.raises(JobError, match="training of other arguments"):
        train_offline(config, msgspec.structs.replace(ARGS, seed=9), left)
    assert result.n_steps > 0


def test_a_ranker_that_passes_is_one_that_the_feed_can_serve(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OfflineGate, "refusals", lambda gate, report: ())
    told: list[str] = []
    result = train_offline(
        config,
        ARGS,
        tmp_path,
        publish=True,
        gate=LENIENT,
        advance=lambda step, done, total: told.append(step),
    )
    assert result.ranker == str(tmp_path / "ranker.safetensors")
    made = json.loads((tmp_path / "ranker.safetensors.json").read_text())["made"]
    assert made["training"]["hidden"] == ARGS.hidden
    assert made["report"]["gain"]["value"] == result.report.gain.value
    assert RetentionPolicy(Ranker.from_file(Path(result.ranker))).name == "retention@0"
    assert told == ["prior", "critic", "policy"]
    (kept,) = list_rankers(config)
    assert (kept.version, kept.is_current) == (result.version, True)
    assert kept.origin == "train offline --method iql --seed 0"
    assert kept.offset > result.n_steps


def test_nobody_is_on_both_sides_and_the_seed_says_who_is_where(config: Config) -> None:
    lives = read_log(config, LifeReward()).lives
    learned, judged = split(lives, 0.4, seed=3)
    sides = [np.concatenate([part.user for part in side]) for side in (learned, judged)]
    assert not np.isin(sides[0], sides[1]).any()
    assert sum(map(len, sides)) == sum(part.n_lives for part in lives)
    users = np.arange(20_000, dtype=np.uint64)
    assert are_held_out(users, 0.4, 3).mean() == pytest.approx(0.4, abs=4 * 0.0035)
    np.testing.assert_array_equal(are_held_out(users, 0.4, 3), are_held_out(users, 0.4, 3))
    both = are_held_out(users, 0.4, 3) & are_held_out(users, 0.4, 4)
    assert both.mean() == pytest.approx(0.16, abs=4 * 0.0026)


def test_what_earns_more_passes_the_gate_and_what_earns_less_does_not() -> None:
    lives, gate = draw_lives(400, seed=4), OfflineGate()
    rest = 20.0 * 0.97**2
    for strength, passes in ((0.15, True), (-0.15, False), (0.0, False)):
        card = lives.rows[:, :, 0].astype(np.float64)
        scores = np.log(behaviour(lives.rows)) + strength * card
        report = judge([Scored(lives, scores, card[lives.page] + rest)], LifeReward())
        assert (not gate.refusals(report)) == passes, report


def test_a_ranker_far_from_the_log_is_refused_before_anybody_looks_at_its_value() -> None:
    lives = draw_lives(400, seed=4)
    card = lives.rows[:, :, 0].astype(np.float64)
    report = judge([Scored(lives, 9.0 * card, card[lives.page])], LifeReward())
    refusals = OfflineGate().refusals(report)
    assert any(refusal.startswith("distance") for refusal in refusals)


def test_a_log_that_cannot_be_learned_from_is_refused(config: Config, tmp_path: Path) -> None:
    empty = Config(data=DataSettings(folder=str(tmp_path)))
    with pytest.raises(JobError, match="expected a data folder"):
        train_offline(empty, ARGS, tmp_path)
    lives = read_log(config, LifeReward()).lives
    with pytest.raises(JobError, match="users to learn from"):
        split(lives, 1e-9, seed=0)
