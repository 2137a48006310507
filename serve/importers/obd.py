"""Importer of the Open Bandit Dataset: logs, production priors and published click rates.

`BEHAVIOUR/CAMPAIGN/CAMPAIGN.csv` is a log with true propensities, `prior_bts.yaml` holds the Beta
priors of Bernoulli Thompson Sampling, and `reference.json` (not part of the original) the click
rates of the full data (Saito, Aihara, Matsutani and Narita, "Open Bandit Dataset and Pipeline:
Towards Realistic and Reproducible Off-Policy Evaluation", NeurIPS 2021, table 1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from env.vocabulary import Floats, Ints
from serve.errors import BadFile
from serve.importers.tables import Row, read_table

Campaign = Literal["all", "men", "women"]
Behaviour = Literal["random", "bts"]
CAMPAIGNS: tuple[Campaign, ...] = ("all", "men", "women")
BEHAVIOURS: tuple[Behaviour, ...] = ("random", "bts")
N_POSITIONS = 3
_COLUMNS = ("item_id", "position", "click", "propensity_score")


@dataclass(frozen=True, slots=True, eq=False)
class ObdLog:
    """Impressions of one campaign under one policy."""

    item: Ints  # (n,) from 0
    position: Ints  # (n,) 0 to 2, left to right
    click: Floats  # (n,) 0 or 1
    propensity: Floats  # (n,) in (0, 1]

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, slots=True, eq=False)
class BetaPriors:
    """Beta priors of a campaign's items."""

    alpha: Floats  # (K,) above 0
    beta: Floats  # (K,) above 0

    def __len__(self) -> int:
        return len(self.alpha)


class ClickRate(msgspec.Struct, frozen=True):
    """A policy's click rate in the full data.

    Attributes:
        ctr_pct: clicks per hundred impressions.
    """

    n: int
    ctr_pct: float


class _Reference(msgspec.Struct, frozen=True):
    full_data_table1: dict[str, dict[str, ClickRate]]


def is_there(folder: Path, campaign: Campaign, behaviour: Behaviour) -> bool:
    """Return whether a folder has the log of a campaign under a policy."""
    return _log_path(folder, campaign, behaviour).is_file()


def read_log(folder: Path, campaign: Campaign, behaviour: Behaviour, n_items: int) -> ObdLog:
    """Return the log of a campaign with `n_items` items.

    Raises:
        BadFile: the file is missing or empty, an item or position is unknown, a click is neither 0
            nor 1, or a propensity is outside (0, 1]; with line and column.
    """
    path = _log_path(folder, campaign, behaviour)
    if not path.is_file():
        raise BadFile(path, "expected the log of this campaign and policy, found none")
    rows = [_read_row(row, n_items) for row in read_table(path, _COLUMNS)]
    if not rows:
        raise BadFile(path, "expected impressions, found none")
    item, position, click, propensity = zip(*rows, strict=True)
    return ObdLog(
        np.array(item, dtype=np.int64),
        np.array(position, dtype=np.int64),
        np.array(click, dtype=np.float64),
        np.array(propensity, dtype=np.float64),
    )


def read_prior(folder: Path, campaign: Campaign) -> BetaPriors:
    """Return the priors of a campaign's items.

    Raises:
        BadFile: the file or campaign is missing, a number is not above 0, lists differ in length,
            or there are fewer items than positions.
    """
    path = folder / "prior_bts.yaml"
    lists = _read_lists(path)
    try:
        alpha, beta = lists[campaign, "alpha"], lists[campaign, "beta"]
    except KeyError as error:
        raise BadFile(path, f"expected alpha and beta of {campaign}, found no {error}") from None
    if len(alpha) != len(beta):
        raise BadFile(path, f"expected as many alpha as beta, got {len(alpha)} and {len(beta)}")
    if len(alpha) < N_POSITIONS:
        raise BadFile(path, f"expected at least {N_POSITIONS} items, got {len(alpha)}")
    return BetaPriors(np.array(alpha), np.array(beta))


def read_click_rates(folder: Path) -> dict[str, dict[str, ClickRate]]:
    """Return click rates in the full data, by campaign and policy; {} if the file is missing.

    Raises:
        BadFile: the file is invalid.
    """
    path = folder / "reference.json"
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Reference).full_data_table1
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadFile(path, f"expected published click rates, but {error}") from None


def _log_path(folder: Path, campaign: Campaign, behaviour: Behaviour) -> Path:
    return folder / behaviour / campaign / f"{campaign}.csv"


def _read_row(row: Row, n_items: int) -> tuple[int, int, float, float]:
    item, position = row.whole("item_id"), row.whole("position")
    if item >= n_items:
        raise row.bad("item_id", f"expected one of {n_items} candidates, got {item}")
    if not 1 <= position <= N_POSITIONS:
        raise row.bad("position", f"expected 1 to {N_POSITIONS}, got {position}")
    click = row.read("click", float, "0 or 1")
    if click not in (0.0, 1.0):
        raise row.bad("click", f"expected 0 or 1, got {click:g}")
    propensity = row.read("propensity_score", float, "a number")
    if not 0.0 < propensity <= 1.0:
        raise row.bad("propensity_score", f"expected a propensity in (0, 1], got {propensity:g}")
    return item, position - 1, click, propensity


def _read_lists(path: Path) -> dict[tuple[str, str], list[float]]:
    """Return the number lists of a two-level YAML file, which needs no YAML parser."""
    lists: dict[tuple[str, str], list[float]] = {}
    outer = inner = ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(path, f"cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("- "):
            lists.setdefault((outer, inner), []).append(_positive(path, number, text[2:]))
        elif text.endswith(":") and not line.startswith(" "):
            outer = text[:-1]
        elif text.endswith(":"):
            inner = text[:-1]
        elif text:
            raise BadFile(path, f"expected a name or a number of a list, got {text!r}", number)
    return lists


def _positive(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < np.inf:
        raise BadFile(path, f"expected a number above 0, got {text!r}", line)
    return value
