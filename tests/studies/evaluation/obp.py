"""Estimators beside those of the Open Bandit Pipeline: same data, same run, taking turns.

Both sides begin with the same dense arrays in memory and end with a number: ours with its
interval, the pipeline's once without and once with its bootstrap. What ours takes includes
gathering the logged actions and checking the columns. The pipeline's calls also check that pmfs
sum to 1, which here is done where a log is read. Rounds take turns, so that a machine that slows
down slows both.

Compared is where both define the same number, so with parameters that are given: the tuners
differ. The pipeline's replay is defined for targets that are sure, and compared on a uniform log
of such a one. What it calls an interval resamples decisions, ours users: the times are compared,
not the intervals.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal, NamedTuple

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints
from policies.explorers import draw, softmax
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import dm, dr, ips, replay, sndr, snips
from replay.estimators.intervals import Estimate
from replay.estimators.mips import ClusterProbabilities, marginalise, mips
from replay.estimators.shrinkage import dros, switch_dr
from serve.bench.room import Clock, timed

OBP = "sb-obp==0.5.10"

NEEDS = (
    "numpy==1.26.4",
    "scipy==1.17.1",
    "pandas==2.3.3",
    "scikit-learn==1.9.1",
    "matplotlib==3.11.2",
    "seaborn==0.13.2",
    "tqdm==4.70.1",
    "PyYAML==6.0.4",
    "torch==2.13.0",
)

INSTALL_TIMEOUT_S = 300.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Both sides compute on one core."""

_STAMP = "installed.txt"


class ObpMissingError(Exception):
    """The Open Bandit Pipeline could not be installed or does not start; says why."""


class Asked(msgspec.Struct, frozen=True):
    """One estimate to be made, see `tests.studies.evaluation.obp_peer`."""

    log: str
    estimator: str
    arguments: dict[str, int | float]
    samples: int = 0


class Answered(msgspec.Struct, frozen=True):
    """An estimate of the other side, and the seconds of the call alone."""

    value: float
    seconds: float


class Peer:
    """The process, asked by a line and answering by a line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it has imported what it needs, and says of which version.

        Raises:
            ObpMissingError: it ended instead.
        """
        self._process = process
        self.versions = msgspec.json.decode(self._read(), type=dict[str, str])

    def ask(self, asked: Asked) -> Answered:
        """Return its estimate.

        Raises:
            ObpMissingError: the process ended.
        """
        writer = _pipe(self._process.stdin)
        writer.write(msgspec.json.encode(asked) + b"\n")
        writer.flush()
        return msgspec.json.decode(self._read(), type=Answered)

    def _read(self) -> bytes:
        line = _pipe(self._process.stdout).readline()
        if not line:
            said = _pipe(self._process.stderr).read().decode(errors="replace")
            raise ObpMissingError(f"{OBP} ended: {_last_line(said)}")
        return line


@contextmanager
def started(python: Path, logs: Path) -> Iterator[Peer]:
    """Run the other side over a folder of logs for as long as the block lasts.

    Args:
        python: the interpreter of the environment.
        logs: folder with a folder a log.

    Raises:
        ObpMissingError: it does not start.
    """
    script = Path(__file__).with_name("obp_peer.py")
    # Isolated: the folder of the script, full of modules with common names, is not on its path.
    command = [str(python), "-I", "-W", "ignore", str(script), str(logs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | ONE_THREAD
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()


def install(folder: Path, needs: tuple[str, ...] = NEEDS, obp: str = OBP) -> Path:
    """Return the interpreter of an environment that has obp; made if it is not there as asked.

    Args:
        folder: of the environment; what is in it is replaced unless it was made by the same list.
        needs: requirements that are installed with what they need themselves.
        obp: requirement that is installed alone.

    Raises:
        ObpMissingError: it cannot be made, with the last thing that was said.
    """
    python, stamp, wanted = folder / "bin" / "python", folder / _STAMP, "\n".join((*needs, obp))
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    try:
        venv.EnvBuilder(clear=True, with_pip=True).create(folder)
        _pip(python, *needs)
        _pip(python, "--no-deps", obp)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        reason = _last_line(said.decode(errors="replace")) or str(error)
        raise ObpMissingError(
            f"{obp} cannot be installed for {sys.version.split()[0]}: {reason}"
        ) from error
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*command, *arguments], check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("expected a process with pipes for its input and output")
    return pipe


def _last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")


Kind = Literal["mixed", "certain"]
N_DIMS = 8
ROWS_A_USER = 10
N_CLUSTERS = 5
_BLOCK = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class DenseLog:
    """n decisions among the same K candidates."""

    user: Ints  # (n,) codes of users
    action: Ints  # (n,) in [0, K)
    reward: Floats  # (n,) 0 or 1
    propensity: Floats  # (n,) of the action, in (0, 1]
    logging: Floats  # (n, K) pmf of the logging policy
    target: Floats  # (n, K) pmf of the target policy
    predicted: Floats  # (n, K) what a reward model says
    cluster: Ints  # (K,) of each candidate

    def columns(self) -> Columns:
        """Return what estimators read, checked."""
        return Columns(self.user, self.reward, self.propensity, self.chosen(self.target))

    def predictions(self) -> RewardPredictions:
        """Return what the model says of the logged actions and of the target's, checked."""
        direct = np.einsum("ik,ik->i", self.target, self.predicted)
        return RewardPredictions(self.chosen(self.predicted), direct)

    def marginal(self) -> ClusterProbabilities:
        """Return how likely both policies were to choose something of the action's cluster."""
        return marginalise(self.action, self.cluster, self.logging, self.target)

    def chosen(self, table: Floats) -> Floats:
        """Return what a table, shape (n, K), holds of the logged actions, shape (n,)."""
        # Half the time of table[rows, action].
        n, n_actions = table.shape
        return np.asarray(table.reshape(-1).take(np.arange(n) * n_actions + self.action))

    def save(self, folder: Path) -> None:
        """Write each array to a file of its name in a folder that is there."""
        for name in self.__slots__:
            np.save(folder / f"{name}.npy", getattr(self, name))


def make_log(n: int, n_actions: int, kind: Kind, seed: int) -> DenseLog:
    """Return a log of n decisions of users who make `ROWS_A_USER` each.

    The reward is Bernoulli with log-odds linear in a context of `N_DIMS` numbers, half of which is
    the user's own. Logs are "mixed" (both policies soft, the target sharper and not quite of the
    same mind) or "certain" (a uniform log and a target that is sure, where replay is at home).

    Args:
        n: decisions.
        n_actions: K.
        kind: of the policies.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    effects = rng.standard_normal((2, n_actions, N_DIMS)) / np.sqrt(N_DIMS)
    error = 0.3 * rng.standard_normal(n_actions)
    logging, target, predicted = (np.empty((n, n_actions)) for _ in range(3))
    action, reward = np.empty(n, dtype=np.int64), np.empty(n)
    user = np.arange(n) // ROWS_A_USER
    own = rng.standard_normal((int(user[-1]) + 1, N_DIMS))
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        context = (own[user[rows]] + rng.standard_normal(own[user[rows]].shape)) / np.sqrt(2.0)
        log_odds = 2.0 * context @ effects[0].T - 0.5
        wanted = log_odds + context @ effects[1].T
        logging[rows], target[rows] = _policies(log_odds, wanted, kind)
        predicted[rows] = _logistic(0.8 * log_odds + error)
        action[rows] = draw(logging[rows], rng)
        truth = _logistic(log_odds)[np.arange(len(log_odds)), action[rows]]
        reward[rows] = rng.random(len(truth)) < truth
    propensity = logging[np.arange(n), action]
    cluster = np.arange(n_actions) % N_CLUSTERS
    return DenseLog(user, action, reward, propensity, logging, target, predicted, cluster)


def _policies(log_odds: Floats, wanted: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Return the pmfs of logging and target policy, each shape (m, K)."""
    match kind:
        case "mixed":
            return softmax(log_odds, 2.0, 0.2), softmax(wanted)
        case "certain":
            uniform = np.full_like(log_odds, 1.0 / log_odds.shape[1])
            return uniform, np.eye(log_odds.shape[1])[wanted.argmax(axis=1)]


def _logistic(log_odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))


TAU, LAM = 5.0, 100.0


class Compared(msgspec.Struct, frozen=True):
    """One estimator on both sides.

    Attributes:
        estimator: its name here.
        value: ours.
        obp_value: theirs.
        seconds: of ours, with its interval.
        obp_point_seconds: of theirs, without one.
        obp_interval_seconds: of theirs, from its bootstrap.
    """

    estimator: str
    value: float
    obp_value: float
    seconds: float
    obp_point_seconds: float
    obp_interval_seconds: float


class Comparison(msgspec.Struct, frozen=True):
    """All estimators on both sides.

    Attributes:
        versions: of the other side's packages.
        rows: estimator by estimator.
        ratio: the pipeline's seconds with its bootstrap over ours, where that is least.
        point_ratio: its seconds without an interval over ours with one, where that is least.
        difference: the largest one of two values.
    """

    versions: dict[str, str]
    rows: list[Compared]
    ratio: float
    point_ratio: float
    difference: float


class _Alike(NamedTuple):
    """An estimator of both sides."""

    kind: Kind
    ours: Callable[[DenseLog], Estimate]
    arguments: dict[str, int | float]  # of the pipeline's class


def compare(
    logs: Mapping[Kind, DenseLog],
    python: Path,
    *,
    rounds: int,
    samples: int,
    clock_ns: Clock,
    advance: Callable[[int, int], None],
) -> Comparison:
    """Return what both sides say and take.

    Args:
        logs: of both kinds, equally large.
        python: interpreter that has the pipeline.
        rounds: of each side, at least 1; the median counts. The bootstrap is timed once.
        samples: of the pipeline's bootstrap.
        clock_ns: a steady clock.
        advance: told how many estimators of how many are done.

    Raises:
        ObpMissingError: the other side does not start, or ends.
    """
    alike = _alike(len(logs["mixed"].cluster))
    with TemporaryDirectory() as folder:
        _save(logs, Path(folder))
        with started(python, Path(folder)) as peer:
            rows: list[Compared] = []
            for name, of_both in alike.items():
                advance(len(rows), len(alike))
                rows.append(_row(name, of_both, logs, peer, rounds, samples, clock_ns))
            advance(len(rows), len(alike))
    return Comparison(
        versions=peer.versions,
        rows=rows,
        ratio=min(row.obp_interval_seconds / row.seconds for row in rows),
        point_ratio=min(row.obp_point_seconds / row.seconds for row in rows),
        difference=max(abs(row.value - row.obp_value) for row in rows),
    )


def _row(
    name: str,
    of_both: _Alike,
    logs: Mapping[Kind, DenseLog],
    peer: Peer,
    rounds: int,
    samples: int,
    clock_ns: Clock,
) -> Compared:
    log = logs[of_both.kind]
    asked = Asked(of_both.kind, name, of_both.arguments)
    peer.ask(asked)  # reads the log, and warms up
    own, points, boots = [], [], []
    for k in range(rounds):
        own.append(timed(lambda: of_both.ours(log), clock_ns))
        points.append(peer.ask(asked))
        if k == rounds // 2:  # seconds long, so once, with short ones before and after
            boots.append(peer.ask(msgspec.structs.replace(asked, samples=samples)))
    return Compared(
        estimator=name,
        value=own[0][0].value,
        obp_value=points[0].value,
        seconds=float(np.median([seconds for _, seconds in own])),
        obp_point_seconds=float(np.median([point.seconds for point in points])),
        obp_interval_seconds=boots[0].seconds,
    )


def _alike(n_candidates: int) -> dict[str, _Alike]:
    """Return the estimators that both sides define alike."""
    return {
        "replay": _Alike("certain", lambda log: replay(log.columns()), {}),
        "ips": _Alike("mixed", lambda log: ips(log.columns()), {}),
        "snips": _Alike("mixed", lambda log: snips(log.columns()), {}),
        "dm": _Alike("mixed", lambda log: dm(log.columns(), log.predictions()), {}),
        "dr": _Alike("mixed", lambda log: dr(log.columns(), log.predictions()), {}),
        "sndr": _Alike("mixed", lambda log: sndr(log.columns(), log.predictions()), {}),
        "switch-dr": _Alike(
            "mixed",
            lambda log: switch_dr(log.columns(), log.predictions(), TAU),
            {"lambda_": TAU},
        ),
        "dros": _Alike(
            "mixed", lambda log: dros(log.columns(), log.predictions(), LAM), {"lambda_": LAM}
        ),
        "mips": _Alike(
            "mixed", lambda log: mips(log.columns(), log.marginal()), {"n_actions": n_candidates}
        ),
    }


def _save(logs: Mapping[Kind, DenseLog], folder: Path) -> None:
    for kind, log in logs.items():
        (folder / kind).mkdir()
        log.save(folder / kind)
