"""Which arm won: the log's own figures, in words, as a table, as JSON and as metrics."""

from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
from histories import HALVES, config_of, make_history
from typer.testing import CliRunner

from env.records import PageRecord
from env.reward import is_censored
from replay.evaluate.arms import ArmsFold, ArmUsers, Readout, Rules, Verdict
from replay.join.join import Join
from serve.commands.main import app
from serve.config import Arm, Config, Experiment
from serve.errors import JobError
from serve.http.scrape import scrape
from serve.jobs.arms import notes, read_arms, verdict
from serve.monitoring.arms import ArmsFollower, rules_of
from serve.monitoring.heartbeats import ARMS, ArmsHeartbeat, Heartbeats
from serve.monitoring.metrics import Metrics
from serve.monitoring.status import Overview
from serve.store.data_folder import open_data

runner = CliRunner()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = config_of(tmp_path_factory.mktemp("arms"))
    make_history(config, n_users=48, rounds=range(3))
    return config


def settings_file(folder: Path, experiment: Experiment) -> str:
    arms = ", ".join(f'{{ name = "{a.name}", policy = "{a.policy}" }}' for a in experiment.arms)
    file = folder / "halves.toml"
    file.write_text(f'[experiment]\nname = "{experiment.name}"\narms = [{arms}]\n')
    return str(file)


def test_rewards_are_those_of_each_arms_closed_cards(config: Config) -> None:
    join, rewards = Join(config.reward), defaultdict[str, list[float]](list)
    users, arm_of = defaultdict[str, set[str]](set), {}
    with open_data(config) as store:
        for line in store.log.read():
            if isinstance(line.record, PageRecord):
                users[line.record.arm].add(line.record.user)
                arm_of[line.record.user] = line.record.arm
            for one in join.fold(line.record):
                if not is_censored(one.feedback, one.duration_s):
                    rewards[arm_of[one.user]].append(one.reward)
    told = read_arms(config)
    assert {one.arm: one.users for one in told.arms} == {a: len(users[a]) for a in users}
    assert {one.arm: one.cards for one in told.arms} == {a: len(rewards[a]) for a in rewards}
    for arm, earned in rewards.items():
        mean = sum(earned) / len(earned)
        assert told.figure("reward_per_card", arm).value == pytest.approx(mean)
    assert told.control == "control"
    assert told.trusted
    other = read_arms(config, control="treated").figure("reward_per_card", "control").difference
    ours = told.figure("reward_per_card", "treated").difference
    assert ours is not None
    assert other is not None
    assert other.value == pytest.approx(-ours.value)


def test_it_is_printed_in_words_as_a_table_and_as_json(config: Config, tmp_path: Path) -> None:
    words = ["arms", "--data", config.data.folder, "--config", settings_file(tmp_path, HALVES)]
    told = runner.invoke(app, words)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("too early to say: ")
    assert "users, expected 50; about " in told.output
    for word in ("reward a card", "back the next day", "treated", "Sample ratio", "always valid"):
        assert word in told.output
    as_json = runner.invoke(app, [*words, "--json"])
    assert msgspec.json.decode(as_json.output, type=Readout).is_early


def test_an_old_log_is_not_told_before_it_is_read_to_its_end(
    config: Config, tmp_path: Path
) -> None:
    beats = Heartbeats(tmp_path)
    with open_data(config) as store:
        follower = ArmsFollower(
            store, beats, config, now_ms=lambda: 7, monotonic_s=lambda: 0.0, batch_lines=100
        )
        assert follower.step()
        assert store.log.last_offset() > 200
        assert beats.read() == {}
        while follower.step():
            pass
    assert list(beats.read()) == [ARMS]


def test_the_metrics_say_the_same(config: Config, tmp_path: Path) -> None:
    beats, seconds = Heartbeats(tmp_path), iter(range(0, 10_000, 10))
    with open_data(config) as store:
        follower = ArmsFollower(
            store, beats, config, now_ms=lambda: 7, monotonic_s=lambda: float(next(seconds))
        )
        while follower.step():
            pass
        last = store.log.last_offset()
    readout = read_arms(config)
    assert beats.read() == {ARMS: ArmsHeartbeat(7, last, readout)}
    text = scrape(Metrics(), Overview(7, beats.read(), None), 0).decode()
    apart = readout.figure("reward_per_card", "treated").difference
    assert apart is not None
    labels = '{arm="treated",figure="reward_per_card"}'
    assert f"nextswipe_arm_difference{labels} {apart.value}\n" in text
    assert f"nextswipe_arm_difference_low{labels} {apart.low}\n" in text
    assert 'nextswipe_arm_verdict{arm="treated",verdict="too early"} 1.0' in text
    assert 'nextswipe_arm_difference{arm="control"' not in text
    assert f'nextswipe_arm_users{{arm="control"}} {float(readout.arms[0].users)}\n' in text
    assert "nextswipe_arms_trusted 1.0" in text
    assert (
        "nextswipe_arm" not in scrape(Metrics(), Overview(300_008, beats.read(), None), 0).decode()
    )


@pytest.mark.parametrize(
    ("experiment", "control", "expected"),
    [
        (Experiment(), "", "experiment.arms: expected settings with two arms or more, got one"),
        (HALVES, "uniform", "--control: expected an arm of the settings .control, treated."),
        (
            Experiment("x", (Arm("a", "uniform"), Arm("b", "vowpal"))),
            "",
            "expected pages of the arms a, b, found only those of control, treated",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    config: Config, experiment: Experiment, control: str, expected: str
) -> None:
    with pytest.raises(JobError, match=expected):
        read_arms(msgspec.structs.replace(config, experiment=experiment), control=control)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError):
        read_arms(config_of(tmp_path / "none"))


def test_the_settings_hold_the_rules_and_the_control() -> None:
    experiment = Experiment(
        "x", (Arm("a", "uniform"), Arm("control", "vowpal")), worth=0.2, least_users=30
    )
    assert (experiment.control, HALVES.control) == ("control", "control")
    assert Experiment("y", (Arm("a", "uniform"), Arm("b", "vowpal"))).control == "a"
    assert rules_of(Config(experiment=experiment)) == Rules(worth=0.2, least_users=30)


@pytest.mark.parametrize(
    ("verdicts", "winner", "trusted", "expected"),
    [
        (("better", "better"), "", True, "better than a: b, c; which of them is not told"),
        (("worse", "worse"), "a", True, "a wins: every other arm earns less"),
        (("worse", "no difference"), "", True, "no arm is better than a by as much as 5%"),
        (("better", "worse"), "", False, "not to be trusted: the arms' users are not as"),
        (
            ("better", "too early"),
            "",
            True,
            "b is better; too early to say: the interval of c holds",
        ),
    ],
)
def test_the_verdict_says_no_more_than_is_known(
    config: Config,
    verdicts: tuple[Verdict, Verdict],
    winner: str,
    trusted: bool,
    expected: str,
) -> None:
    fold = ArmsFold({"a": 1.0, "b": 1.0, "c": 1.0}, config.reward)
    empty = fold.readout("a", Rules())
    arms = [ArmUsers(a, 90, 90, 900, v) for a, v in zip("abc", (None, *verdicts), strict=True)]
    told = msgspec.structs.replace(empty, arms=tuple(arms), winner=winner, trusted=trusted)
    assert verdict(told).startswith(expected)
    assert notes(msgspec.structs.replace(told, switched=3))[-1].startswith("3 users were dealt")
