"""Do intervals of sessions and lives hold the truth? MiniSwipe's users, values known exactly.

Logs of `tests.studies.evaluation.worlds`: 200 users, clustered by user, who are shown what follows
the optimal policy in half of its choices and is uniform in the others. Of each log,

    sessions  the seconds of a session, over each user's first 4
    lives     the seconds of all that follows, each day away discounted, from the first 30 days

for a target near to the logging policy (it follows the optimal one in .575) and for the optimal
one, far from it: E[w^2] of a step is 1.01 and 1.6. The products of `replay.estimators.trajectories`
answer one of these four questions, near and by session: in the others they have no effective
episode left. How
fast they tire: for a target that follows the optimal one in .6 (E[w^2] of 1.02), DR-RL covered in
.917 of 300 logs.

`in_band` counts FQE's and DR-RL's cells. The marginal ratios are of a coarse state: a third of the
levels of satisfaction, by load, without satiation. What that hides is the bias of MIS.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from env.twin.model import N_LOADS, N_PULSES, MiniConstants, MiniModel
from env.twin.solve import DynamicProgramme
from env.vocabulary import Floats, Ints
from replay.estimators.fqe import cross_fitted_values, ridge_fqe
from replay.estimators.intervals import Estimate
from replay.estimators.marginal import CoarseStates, marginal_dr, mis
from replay.estimators.trajectories import dr_rl, pdis, wpdis
from tests.studies.evaluation.coverage import Covered, count_in_band, tally
from tests.studies.evaluation.worlds import MiniLog, live, mixed, session_value

Advance = Callable[[str, int, int], None]
N_RUNS = 400
N_PEOPLE = 200
N_SESSIONS = 4
N_DAYS = 30
LOGGED_SHARE = 0.5
NEAR_SHARE = 0.575
LEVELS_A_STATE = 3
RUNS_AT_ONCE = 25
BAND = (0.91, 0.99)
APPLY = ("fqe", "dr-rl")


class SessionsResult(msgspec.Struct, frozen=True):
    """Coverage at 95% nominal, by user.

    Attributes:
        cells: one a question and estimator.
        in_band: how many cells of FQE and DR-RL cover in 91 to 99%.
        of: how many cells these are.
    """

    n_users: int
    n_runs: int
    seed: int
    cells: tuple[Covered, ...]
    in_band: int
    of: int


def run_sessions(n_runs: int, *, seed: int, advance: Advance, processes: int = 1) -> SessionsResult:
    """Return how often intervals held the truth in `n_runs` logs.

    The result does not hang on the number of processes.
    """
    found: dict[tuple[str, str], list[Estimate]] = {}
    chunks = [
        (seed, first, min(first + RUNS_AT_ONCE, n_runs)) for first in range(0, n_runs, RUNS_AT_ONCE)
    ]
    # Spawned, not forked: the parent may have threads by now.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        each = pool.map(run_chunk, chunks) if processes > 1 else map(run_chunk, chunks)
        for (_, _, end), rows in zip(chunks, each, strict=True):
            for setting, estimate in rows:
                found.setdefault((setting, estimate.estimator), []).append(estimate)
            advance("logs of users", end, n_runs)
    with threadpool_limits(1, user_api="blas"):
        truths = true_values()
    cells = tuple(
        tally(setting, truths[setting], estimates) for (setting, _), estimates in found.items()
    )
    of = sum(cell.estimator in APPLY for cell in cells)
    in_band = count_in_band(cells, APPLY, *BAND)
    return SessionsResult(N_PEOPLE, n_runs, seed, cells, in_band, of)


def run_chunk(chunk: tuple[int, int, int]) -> list[tuple[str, Estimate]]:
    """Return the estimates of the logs [first, end) of a seed, each with what was asked."""
    seed, first, end = chunk
    rows = []
    with threadpool_limits(1, user_api="blas"):
        behaviour, targets = policies(solved_model())
        generator = np.random.default_rng([seed, first])
        lives = live(behaviour, (end - first) * N_PEOPLE, N_DAYS, generator)
        for i in range(end - first):
            log = lives.of_users(i * N_PEOPLE, (i + 1) * N_PEOPLE)
            for name, target in targets.items():
                for setting, estimate in estimate_log(log, behaviour, target, near=name == "near"):
                    rows.append((f"{setting}, {name}", estimate))
    return rows


def solved_model() -> DynamicProgramme:
    """Return MiniSwipe's matrices."""
    return DynamicProgramme.of(MiniModel.of(MiniConstants()))


def policies(programme: DynamicProgramme) -> tuple[Floats, dict[str, Floats]]:
    """Return the policy that makes the logs and the targets by name, pmfs of shape (336, 4)."""
    optimal = programme.optimal("watch")
    targets = {"near": mixed(optimal, NEAR_SHARE), "optimal": optimal}
    return mixed(optimal, LOGGED_SHARE), targets


def true_values() -> dict[str, float]:
    """Return the exact value of each question and target, by setting."""
    programme = solved_model()
    behaviour, targets = policies(programme)
    values = {}
    for name, target in targets.items():
        per_session = session_value(programme, behaviour, target, N_SESSIONS)
        values[f"sessions, {name}"] = per_session
        values[f"lives, {name}"] = programme.value(target, "watch")
    return values


def estimate_log(
    log: MiniLog, behaviour: Floats, target: Floats, *, near: bool
) -> Iterator[tuple[str, Estimate]]:
    """Yield what the estimators that can answer say of a target, with what they were asked."""
    sessions = log.first_sessions(N_SESSIONS)
    visits, lives = (
        sessions.trajectories(behaviour, target, by_session=True),
        log.trajectories(behaviour, target, by_session=False),
    )
    if near:
        values = cross_fitted_values(visits, sessions.markov(target))
        for estimate in (pdis(visits), wpdis(visits), dr_rl(visits, values)):
            yield "sessions", estimate
    yield "sessions", ridge_fqe(visits, sessions.markov(target))
    steps = log.markov(target)
    yield "lives", ridge_fqe(lives, steps)
    states = CoarseStates(coarsen(log.state), coarsen(log.after))
    yield "lives", mis(lives, states)
    if near:
        yield "lives", marginal_dr(lives, states, cross_fitted_values(lives, steps))


def coarsen(state: Ints) -> Ints:
    """Return the coarse code of each state: neighbouring levels by load, whatever the satiation."""
    coarse: Ints = state // (N_PULSES * LEVELS_A_STATE) * N_LOADS + state % N_LOADS
    return coarse
