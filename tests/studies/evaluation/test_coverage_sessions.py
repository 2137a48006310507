"""The session version of the coverage benchmark, short, and its truths against simulated lives."""

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.studies.commands import app
from tests.studies.evaluation.coverage import Covered
from tests.studies.evaluation.coverage_sessions import (
    N_SESSIONS,
    policies,
    run_chunk,
    run_sessions,
    solved_model,
    true_values,
)
from tests.studies.evaluation.worlds import live, session_value

RUNS = 10
PROGRAMME = solved_model()
BEHAVIOUR, TARGETS = policies(PROGRAMME)


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str], Covered]:
    result = run_sessions(RUNS, seed=2, advance=lambda step, done, total: None)
    return {(cell.setting, cell.estimator): cell for cell in result.cells}


def test_the_value_of_a_session_is_what_simulated_users_watch() -> None:
    lives = live(BEHAVIOUR, 1_500, 20, np.random.default_rng(4))
    sessions = lives.first_sessions(N_SESSIONS)
    own = sessions.trajectories(BEHAVIOUR, BEHAVIOUR, by_session=True)
    watched = own.sums(sessions.watch_s)
    by_user = np.bincount(own.user, weights=watched - watched.mean())
    se = np.sqrt((by_user**2).sum()) / len(own)
    value = session_value(PROGRAMME, BEHAVIOUR, BEHAVIOUR, N_SESSIONS)
    assert abs(watched.mean() - value) <= 3.0 * se


def test_steps_of_a_log_follow_each_other() -> None:
    lives = live(BEHAVIOUR, 30, 20, np.random.default_rng(5))
    same = np.diff(lives.user) == 0
    assert (lives.after[:-1][same] == lives.state[1:][same]).all()
    assert (lives.discount[lives.left] < 1.0).all()
    assert (lives.discount[~lives.left] == 1.0).all()
    some = lives.of_users(10, 20)
    assert some.user[[0, -1]].tolist() == [0, 9]
    assert len(some.state) == np.count_nonzero((lives.user >= 10) & (lives.user < 20))


def test_the_optimal_policy_is_worth_most() -> None:
    values = true_values()
    own = session_value(PROGRAMME, BEHAVIOUR, BEHAVIOUR, N_SESSIONS)
    assert values["sessions, optimal"] > values["sessions, near"] > own
    assert values["lives, optimal"] > values["lives, near"] > PROGRAMME.value(BEHAVIOUR, "watch")


@pytest.mark.parametrize(
    ("setting", "estimator"),
    [
        ("sessions, near", "pdis"),
        ("sessions, near", "wpdis"),
        ("sessions, near", "dr-rl"),
        ("sessions, near", "fqe"),
        ("sessions, optimal", "fqe"),
        ("lives, near", "fqe"),
        ("lives, near", "mis"),
        ("lives, near", "marginal dr"),
        ("lives, optimal", "fqe"),
    ],
)
def test_estimates_of_sessions_and_lives_agree_with_the_exact_values(
    cells: dict[tuple[str, str], Covered], setting: str, estimator: str
) -> None:
    cell = cells[setting, estimator]
    assert cell.coverage >= 0.91 - 3.0 * np.sqrt(0.91 * 0.09 / RUNS)
    assert abs(cell.bias_se) <= 4.0  # a t of 9 degrees of freedom


def test_the_less_an_estimator_assumes_the_noisier_it_is(
    cells: dict[tuple[str, str], Covered],
) -> None:
    widths = [
        cells["sessions, near", name].relative_half_width
        for name in ("pdis", "wpdis", "dr-rl", "fqe")
    ]
    assert widths == sorted(widths, reverse=True)


def test_a_chunk_of_logs_is_the_same_again() -> None:
    assert run_chunk((7, 0, 1)) == run_chunk((7, 0, 1))


def test_the_command_counts_pages_or_sessions_but_not_both() -> None:
    runner = CliRunner()
    both = runner.invoke(app, ["coverage", "--pages", "--sessions"])
    assert both.exit_code == 2
    printed = runner.invoke(app, ["coverage", "--pages", "--runs", "2", "--json"])
    assert printed.exit_code == 0
    assert '"n_slots":5' in printed.stdout
