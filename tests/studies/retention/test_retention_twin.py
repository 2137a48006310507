import json
import time

import pytest
from typer.testing import CliRunner

from tests.studies.commands import app
from tests.studies.peers.planner import PlannerArgs
from tests.studies.retention.twin import TwinSize, run_retention_twin
from tests.studies.retention.twin_arms import ARMS, BASELINES, TwinBudget

SMALL = TwinBudget(
    planner=PlannerArgs(n_users=200, rounds=(100, 100)),
    few=PlannerArgs(n_users=50, rounds=(100, 100)),
)


def test_arms_are_scored_by_seed_and_the_worst_counts() -> None:
    told: list[tuple[str, int, int]] = []
    size = TwinSize(seeds=2, arms=("planner", "greedy bandit"), budget=SMALL)
    result = run_retention_twin(
        size,
        seed=1,
        clock_ns=time.perf_counter_ns,
        advance=lambda *step: told.append(step),
    )
    rows = {(row.arm, row.objective): row for row in result.rows}
    assert {len(row.served) for (arm, _), row in rows.items() if arm == "planner"} == {2}
    assert {len(row.served) for (arm, _), row in rows.items() if arm in BASELINES} == {1}
    planner = rows["planner", "watch"]
    assert result.planner_watch_worst == min(planner.served) > 0.5
    assert planner.cards == 40_000
    slowest = max(
        a + b for a, b in zip(planner.seconds, rows["planner", "days"].seconds, strict=True)
    )
    assert result.planner_seconds == pytest.approx(slowest)
    assert (result.watch_worst, result.days_worst, result.seconds_worst) == (None, None, None)
    assert told[-1] == ("trainings", 6, 6)


def test_processes_do_not_change_the_scores() -> None:
    size = TwinSize(seeds=2, arms=("greedy bandit",), baseline_seeds=2, budget=SMALL)
    alone, together = (
        run_retention_twin(
            size,
            seed=3,
            clock_ns=time.perf_counter_ns,
            advance=lambda *step: None,
            processes=processes,
        )
        for processes in (1, 2)
    )
    assert [row.served for row in alone.rows] == [row.served for row in together.rows]


def test_unknown_arms_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="expected arms of ppo, planner"):
        TwinSize(arms=("sarsa",))
    with pytest.raises(ValueError, match="expected a seed or more"):
        TwinSize(seeds=0)
    assert set(BASELINES) < set(ARMS)


def test_the_command_prints_the_bar_as_json() -> None:
    arguments = ["retention", "--twin", "--seeds", "1", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--arm", "planner from 100,000 cards"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [row["arm"] for row in told["rows"]] == ["planner from 100,000 cards"] * 2
    assert told["watch_worst"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --twin and --world"),
        (["--twin", "--world"], "expected one of --twin and --world"),
        (["--twin", "--arm", "sarsa"], "expected arms of ppo"),
    ],
)
def test_the_command_says_what_it_expects(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["retention", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert message in done.output
