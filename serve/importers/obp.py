"""Reader of a log in the fields of the Open Bandit Pipeline: one row per round, CSV or Parquet.

Required columns are `action` (from 0), `reward` and `pscore` (in (0, 1]); optional ones are
`position`, `context_*`, `pi_b_*`, `user`, `n_rounds` and `n_actions`. Candidate features stand
beside it in `NAME.action_context.csv` or `.parquet`. Meaning of the columns:
`docs/decisions/jobs-external-logs.md`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from env.vocabulary import Floats, Ints
from replay.join.rows import CoverageCounts
from replay.source import MAX_ACTIONS, MAX_SLOTS, Batch, Draws
from serve.errors import BadFile
from serve.importers.tables import BLOCK_ROWS, NumberBlock, column_names, read_blocks

PMF_TOLERANCE = 1e-4
"""Largest deviation from 1 of the sum of a single-precision pmf."""

BATCH_CELLS = 4_000_000
"""Maximum of rounds times candidates in a batch: 32 MB per matrix."""

_REQUIRED = ("action", "reward", "pscore")
_OPTIONAL = ("position", "n_rounds", "n_actions")


class ObpSource:
    """The rounds of a file, each of which is a seen decision."""

    reward_version = 0
    reward_range: tuple[float, float] | None = None

    def __init__(self, path: Path) -> None:
        """Read a file's columns, and the candidates beside it.

        Raises:
            BadFile: the file cannot be read, a column is missing or unknown, or the stated numbers
                of candidates differ.
        """
        self.path = path
        names = column_names(path)
        self._numbers = [name for name in names if name != "user"]
        self._texts = [name for name in names if name == "user"]
        self._context = [name for name in names if name.startswith("context")]
        self._pi_b = _pi_b(path, names)
        _check_columns(path, names)
        self._action_context = _read_action_context(path)
        self._n_actions = self._count_actions()
        self._n_rounds = 0

    @property
    def coverage(self) -> CoverageCounts:
        """All rounds of the last pass over the file."""
        unnamed = 0 if self._texts else self._n_rounds
        return CoverageCounts(self._n_rounds, self._n_rounds, 0, unnamed)

    def batches(self) -> Iterator[Batch]:
        """Yield the rounds; memory is that of one batch and the user names.

        Raises:
            BadFile: a propensity is outside (0, 1], an action is not a candidate, a pmf does not
                sum to 1, a cell is not finite, or there are fewer rounds than `n_rounds`; with line
                and column.
        """
        users: dict[str, int] = {}
        self._n_rounds = 0
        block = None
        n_rows = max(1, min(BLOCK_ROWS, BATCH_CELLS // self._n_actions))
        for block in read_blocks(self.path, self._numbers, self._texts, n_rows):
            first = self._n_rounds
            self._n_rounds += len(block)
            yield self._batch(block, _codes(users, block, first))
        if block is not None and "n_rounds" in block.numbers:
            whole = block.numbers["n_rounds"] == self._n_rounds
            block.require("n_rounds", whole, f"as many rounds as rows, {self._n_rounds:,}")

    def _batch(self, block: NumberBlock, user: Ints) -> Batch:
        m, k = len(block), self._n_actions
        self._check(block)
        mask = np.ones((m, k), dtype=np.bool_)
        pmf = block.matrix(self._pi_b) if self._pi_b else None
        propensity, action = block.numbers["pscore"], block.numbers["action"].astype(np.int64)
        # The floor of the propensities is unknown, so they cannot be judged by it.
        drawn = Draws(propensity, action, np.zeros_like(mask), pmf)
        return Batch(
            user=user,
            reward=block.numbers["reward"],
            propensity=propensity,
            action=action,
            slot=block.numbers.get("position", np.zeros(m)).astype(np.int64),
            at_ms=np.zeros(m, dtype=np.int64),
            mask=mask,
            pmf=pmf,
            context=block.matrix(self._context) if self._context else None,
            action_context=self._action_context,
            drawn=drawn,
        )

    def _check(self, block: NumberBlock) -> None:
        k, action, pscore = self._n_actions, block.numbers["action"], block.numbers["pscore"]
        known = (action >= 0) & (action < k) & (action == np.floor(action))
        block.require("action", known, f"one of {k} candidates, 0 to {k - 1}")
        block.require("pscore", (pscore > 0.0) & (pscore <= 1.0), "a propensity in (0, 1]")
        if "position" in block.numbers:
            _bounded(block, "position", 0, MAX_SLOTS - 1)
        if "n_actions" in block.numbers:
            same = block.numbers["n_actions"] == k
            block.require("n_actions", same, f"{k} in every row")
        if self._pi_b:
            self._check_pmf(block)

    def _check_pmf(self, block: NumberBlock) -> None:
        for column in self._pi_b:
            values = block.numbers[column]
            block.require(column, (values >= 0.0) & (values <= 1.0), "a probability in [0, 1]")
        pmf = block.matrix(self._pi_b)
        off = np.abs(pmf.sum(axis=1) - 1.0) > PMF_TOLERANCE
        if off.any():
            row = int(np.argmax(off))
            raise BadFile(
                self.path,
                f"expected probabilities that sum to 1, got {pmf[row].sum():.6g}",
                int(block.lines[row]),
                "pi_b",
            )
        chosen = pmf[np.arange(len(block)), block.numbers["action"].astype(np.int64)]
        same = np.abs(chosen - block.numbers["pscore"]) <= PMF_TOLERANCE * chosen
        block.require("pscore", same, "the probability that pi_b gives the action")

    def _count_actions(self) -> int:
        """Return the number of candidates, from the actions only if nothing else states it."""
        said = [] if self._action_context is None else [len(self._action_context)]
        said += [len(self._pi_b)] if self._pi_b else []
        if "n_actions" in self._numbers:
            block = next(read_blocks(self.path, ["n_actions"]))
            said.append(int(_bounded(block, "n_actions", 1, MAX_ACTIONS)[0]))
        if len(set(said)) > 1:
            raise BadFile(self.path, f"expected one number of candidates, got {said}")
        if said:
            return said[0]
        blocks = read_blocks(self.path, ["action"])
        return 1 + max(int(_bounded(block, "action", 0, MAX_ACTIONS - 1).max()) for block in blocks)


def _bounded(block: NumberBlock, column: str, low: int, high: int) -> Floats:
    """Return a column of whole numbers in a range, since they determine memory."""
    numbers = block.numbers[column]
    known = (numbers >= low) & (numbers <= high) & (numbers == np.floor(numbers))
    block.require(column, known, f"a whole number from {low} to {high}")
    return numbers


def _check_columns(path: Path, names: list[str]) -> None:
    for column in _REQUIRED:
        if column not in names:
            raise BadFile(path, f"expected this column, got {', '.join(names)}", 1, column)
    for name in names:
        known = (*_REQUIRED, *_OPTIONAL, "user")
        if name not in known and not name.startswith(("context", "pi_b_")):
            expected = f"{', '.join(known)}, context_... and pi_b_..."
            raise BadFile(path, f"expected columns of {expected}", 1, name)


def _pi_b(path: Path, names: list[str]) -> list[str]:
    """Return the columns of the logging policy's distribution, in the order of candidates."""
    found = {name for name in names if name.startswith("pi_b_")}
    ordered = [f"pi_b_{k}" for k in range(len(found))]
    if found != set(ordered):
        raise BadFile(path, f"expected pi_b_0 to pi_b_{len(found) - 1}, got {sorted(found)}", 1)
    return ordered


def _read_action_context(path: Path) -> Floats | None:
    """Return the candidate features beside a log, shape (K, e), or None."""
    beside = path.with_name(f"{path.stem}.action_context{path.suffix}")
    if not beside.is_file():
        return None
    names = column_names(beside)
    return np.concatenate([block.matrix(names) for block in read_blocks(beside, names)])


def _codes(users: dict[str, int], block: NumberBlock, first: int) -> Ints:
    """Return the code of each row's user; without user names, the row's own index."""
    if "user" not in block.texts:
        return np.arange(first, first + len(block))
    names = block.texts["user"]
    return np.array([users.setdefault(name, len(users)) for name in names], dtype=np.int64)
