"""Evaluation on the Open Bandit Dataset: published figures, and errors against the true values.

Two policies ran at the same time, uniform (`random`) and Bernoulli Thompson Sampling (`bts`), so
either log can be asked about the other policy, which has its own measured click rate. The score is
the mean error over all settings on resampled logs. Method:
`docs/decisions/jobs-open-bandit-dataset.md`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from env.vocabulary import Floats, Ints
from replay.estimators.choice import default
from replay.estimators.columns import Columns, RewardPredictions
from replay.estimators.decisions import ESTIMATORS, logged
from replay.estimators.intervals import LEVEL, Estimate
from replay.evaluate.gates import GateFailure, Gates
from replay.evaluate.health import WeightDiagnostics, weights_of
from replay.reward_models.ridge import cross_fitted_predictions
from serve.errors import JobError
from serve.importers.obd import (
    BEHAVIOURS,
    CAMPAIGNS,
    N_POSITIONS,
    Behaviour,
    BetaPriors,
    Campaign,
    ObdLog,
    is_there,
    read_click_rates,
    read_log,
    read_prior,
)

DRAWS = 100_000
"""Number of draws in the publication."""

SEED = 12_345
_BLOCK = 10_000


class ThompsonSampling:
    """Frequencies of each item at each position under Thompson Sampling."""

    def __init__(self, prior: BetaPriors) -> None:
        # The published figures need the stream of this legacy generator.
        self._rng = np.random.RandomState(SEED)
        self._prior = prior
        self._counts = np.zeros((len(prior), N_POSITIONS))
        self._draws = 0

    def pmf(self, draws: int) -> Floats:
        """Return the frequencies after `draws` draws, shape (K, 3), continuing earlier draws.

        Raises:
            ValueError: more were drawn already.
        """
        if draws < self._draws:
            raise ValueError(f"expected at least {self._draws} draws, got {draws}")
        while self._draws < draws:
            n = min(_BLOCK, draws - self._draws)
            theta = self._rng.beta(self._prior.alpha, self._prior.beta, (n, len(self._prior)))
            ranking = np.argsort(theta, axis=1)[:, ::-1]
            for position in range(N_POSITIONS):
                counts = np.bincount(ranking[:, position], minlength=len(self._prior))
                self._counts[:, position] += counts
            self._draws += n
        return self._counts / self._draws


class ObdFolder:
    """A folder of the dataset; each file is read once, on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._priors: dict[Campaign, BetaPriors] = {}
        self._logs: dict[tuple[Campaign, Behaviour], ObdLog] = {}
        self._sampling: dict[Campaign, ThompsonSampling] = {}
        self._pmfs: dict[tuple[Campaign, int], Floats] = {}

    def settings(self) -> Iterator[tuple[Campaign, Behaviour, Behaviour]]:
        """Yield campaign, behaviour and target of each setting with a log."""
        for campaign in CAMPAIGNS:
            for behaviour in BEHAVIOURS:
                if is_there(self.path, campaign, behaviour):
                    yield campaign, behaviour, "bts" if behaviour == "random" else "random"

    def prior(self, campaign: Campaign) -> BetaPriors:
        """Return the priors of a campaign's items.

        Raises:
            BadFile: there are none.
        """
        if campaign not in self._priors:
            self._priors[campaign] = read_prior(self.path, campaign)
        return self._priors[campaign]

    def log(self, campaign: Campaign, behaviour: Behaviour) -> ObdLog:
        """Return the log of a campaign under a policy.

        Raises:
            BadFile: it is missing or invalid.
        """
        key = (campaign, behaviour)
        if key not in self._logs:
            n_items = len(self.prior(campaign))
            self._logs[key] = read_log(self.path, campaign, behaviour, n_items)
        return self._logs[key]

    def pmf(self, campaign: Campaign, policy: Behaviour, draws: int = DRAWS) -> Floats:
        """Return a policy's probability of each item at each position, shape (K, 3).

        Raises:
            BadFile: the priors are missing.
            ValueError: fewer draws than requested before.
        """
        prior = self.prior(campaign)
        if policy == "random":
            return np.full((len(prior), N_POSITIONS), 1.0 / len(prior))
        key = (campaign, draws)
        if key not in self._pmfs:
            sampling = self._sampling.setdefault(campaign, ThompsonSampling(prior))
            self._pmfs[key] = sampling.pmf(draws)
        return self._pmfs[key]


MORE_DRAWS = 400_000
"""Enough draws that their noise is below the fourth digit."""

BOOTSTRAPS = 100
Advance = Callable[[int], None]
"""Called with the number of settings finished since the last call."""


class ObdError(msgspec.Struct, frozen=True):
    """Error of the default estimator in one setting.

    Attributes:
        truth: click rate of the target in the full data.
        relative_error: mean over resampled logs of |estimate - truth| / truth.
        relative_error_sd: standard deviation over them.
        refusals: failed gates; if any, the error is of forced estimates.
    """

    campaign: str
    behaviour: str
    target: str
    truth: float
    relative_error: float
    relative_error_sd: float
    refusals: tuple[GateFailure, ...]


class ObdReport(msgspec.Struct, frozen=True):
    """Evaluation of one policy from the other's log, and the errors of such evaluations.

    Attributes:
        draws: draws from the priors, for the distribution of `bts`.
        forced: whether estimates are shown in spite of failed gates.
        logged: clicks per impression of the log itself.
        on_policy: clicks per impression in the target's own sample; None if it is missing.
        ips: None where the log is refused, like all estimates below.
        snips: likewise.
        ips_more_draws: ips with the distribution from `MORE_DRAWS` draws; None without draws.
        relative_error: |ips - on_policy| / on_policy.
        default: estimate of the default estimator.
        settings: errors of the default estimator, in all available settings.
        mean_relative_error: mean over the settings; None without full-data click rates.
    """

    campaign: str
    behaviour: str
    target: str
    n_items: int
    draws: int
    weights: WeightDiagnostics
    ess: float
    refusals: tuple[GateFailure, ...]
    forced: bool
    logged: Estimate
    on_policy: float | None
    ips: float | None = None
    snips: float | None = None
    ips_more_draws: float | None = None
    relative_error: float | None = None
    default: Estimate | None = None
    estimates: tuple[Estimate, ...] = ()
    settings: tuple[ObdError, ...] = ()
    mean_relative_error: float | None = None


def evaluate_obd(
    folder: Path,
    campaign: Campaign,
    behaviour: Behaviour,
    target: Behaviour,
    *,
    force: bool = False,
    gates: Gates | None = None,
    advance: Advance | None = None,
) -> ObdReport:
    """Return the evaluation of a policy from a log, with the errors over all settings.

    Args:
        force: show estimates in spite of failed gates, marked.
        gates: limits; None: the default ones.
        advance: progress callback, in settings.

    Raises:
        BadFile: a file is missing or invalid; with line and column.
        JobError: the folder lacks this log.
    """
    gates, data = gates or Gates(), ObdFolder(folder)
    report = ask(data, campaign, behaviour, target, gates, force=force)
    settings = tuple(errors(data, gates, advance))
    mean = float(np.mean([s.relative_error for s in settings])) if settings else None
    return msgspec.structs.replace(report, settings=settings, mean_relative_error=mean)


def ask(
    data: ObdFolder,
    campaign: Campaign,
    behaviour: Behaviour,
    target: Behaviour,
    gates: Gates,
    *,
    force: bool = False,
) -> ObdReport:
    """Return the evaluation of a policy from one log, without the errors over all settings.

    Raises:
        BadFile: a file is missing or invalid; with line and column.
        JobError: the folder lacks this log.
    """
    if (campaign, behaviour) not in {(c, b) for c, b, _ in data.settings()}:
        there = ", ".join(f"{c} {b}" for c, b, _ in data.settings()) or "none"
        raise JobError(f"{data.path}: expected the log of {campaign} {behaviour}, found {there}")
    log = data.log(campaign, behaviour)
    columns = columns_of(log, data.pmf(campaign, target))
    weights = weights_of(columns)
    refusals = gates.weight_refusals(weights)
    report = ObdReport(
        campaign=campaign,
        behaviour=behaviour,
        target=target,
        n_items=len(data.prior(campaign)),
        draws=DRAWS if target == "bts" else 0,
        weights=weights,
        ess=weights.ess,
        refusals=refusals,
        forced=force and bool(refusals),
        logged=logged(columns),
        on_policy=_on_policy(data, campaign, target),
    )
    if force or not report.refusals:
        return _with_estimates(report, data, campaign, behaviour, target)
    return report


def columns_of(log: ObdLog, pmf: Floats, rows: Ints | None = None) -> Columns:
    """Return the estimators' columns of a log, or of some rows of it.

    Args:
        log: n impressions.
        pmf: pmf of the target, shape (K, 3).
        rows: row indices, repeats allowed; a repeated row is the same user. None: all.
    """
    rows = np.arange(len(log)) if rows is None else rows
    return Columns(
        user=rows,
        reward=log.click[rows],
        propensity=log.propensity[rows],
        target=pmf[log.item[rows], log.position[rows]],
    )


def errors(data: ObdFolder, gates: Gates, advance: Advance | None = None) -> Iterator[ObdError]:
    """Yield the default estimator's error in each available setting with a full-data click rate."""
    rates = read_click_rates(data.path)
    for campaign, behaviour, target in data.settings():
        rate = rates.get(campaign, {}).get(target)
        if rate is not None:
            truth = rate.ctr_pct / 100.0
            log, pmf = data.log(campaign, behaviour), data.pmf(campaign, target)
            found = _bootstrap_errors(log, pmf, truth)
            yield ObdError(
                campaign,
                behaviour,
                target,
                truth,
                relative_error=float(found.mean()),
                relative_error_sd=float(found.std(ddof=1)),
                refusals=gates.weight_refusals(weights_of(columns_of(log, pmf))),
            )
        if advance is not None:
            advance(1)


def count_settings(folder: Path) -> int:
    """Return the number of available settings, for progress bars."""
    return sum(1 for _ in ObdFolder(folder).settings())


def _on_policy(data: ObdFolder, campaign: Campaign, target: Behaviour) -> float | None:
    if (campaign, target) not in {(c, b) for c, b, _ in data.settings()}:
        return None
    return float(data.log(campaign, target).click.mean())


def _with_estimates(
    report: ObdReport, data: ObdFolder, campaign: Campaign, behaviour: Behaviour, target: Behaviour
) -> ObdReport:
    log, pmf = data.log(campaign, behaviour), data.pmf(campaign, target)
    columns, predictions = columns_of(log, pmf), _predict(log, pmf)
    estimates = tuple(estimator(columns, predictions, LEVEL) for estimator in ESTIMATORS.values())
    value = {estimate.estimator: estimate.value for estimate in estimates}
    truth, more = report.on_policy, None
    if target == "bts":
        more = _ips(log, data.pmf(campaign, target, MORE_DRAWS))
    return msgspec.structs.replace(
        report,
        ips=value["ips"],
        snips=value["snips"],
        ips_more_draws=more,
        relative_error=abs(value["ips"] - truth) / truth if truth else None,
        default=default(columns, predictions, LEVEL),
        estimates=estimates,
    )


def _ips(log: ObdLog, pmf: Floats) -> float:
    columns = columns_of(log, pmf)
    return float((columns.weights * columns.reward).mean())


def _bootstrap_errors(log: ObdLog, pmf: Floats, truth: float) -> Floats:
    """Return the relative errors of the default estimator on resampled logs, (BOOTSTRAPS,)."""
    rng = np.random.default_rng(SEED)
    found = np.empty(BOOTSTRAPS)
    for i in range(BOOTSTRAPS):
        rows = rng.integers(len(log), size=len(log))
        estimate = default(columns_of(log, pmf, rows), _predict(log, pmf, rows), LEVEL)
        found[i] = abs(estimate.value - truth) / truth
    return found


def _predict(log: ObdLog, pmf: Floats, rows: Ints | None = None) -> RewardPredictions:
    """Return shrunk mean predictions of each item at each position, cross-fitted by row."""
    rows = np.arange(len(log)) if rows is None else rows
    position = log.position[rows]
    target = pmf.T[position]
    return cross_fitted_predictions(rows, position, log.item[rows], log.click[rows], target)


def print_report(report: ObdReport) -> None:
    """Print refusals, estimates and errors as tables."""
    console = Console()
    for refusal in report.refusals:
        mark = "shown by force" if report.forced else "refused"
        console.print(f"{mark}: {refusal}; {refusal.advice}", highlight=False)
    _print_estimates(console, report)
    _print_settings(console, report)


def _print_estimates(console: Console, report: ObdReport) -> None:
    console.print(
        "the dataset names nobody: each impression counts as a user of its own, though three of "
        "them make a page",
        highlight=False,
    )
    title = f"{report.target} on the log of {report.behaviour}, campaign {report.campaign}"
    table = Table(title=title)
    for column in ("", "clicks an impression", "95% interval", "effective n"):
        table.add_column(column, justify="left" if not column else "right")
    named = [("default: ", report.default)] if report.default is not None else []
    named += [("", estimate) for estimate in (report.logged, *report.estimates)]
    for mark, estimate in named:
        interval = f"{estimate.low:.6f} to {estimate.high:.6f}"
        name = f"{mark}{estimate.estimator}"
        table.add_row(name, f"{estimate.value:.6f}", interval, f"{estimate.ess:,.0f}")
    console.print(table)
    if report.on_policy is not None:
        error = report.relative_error
        told = "" if error is None else f", so ips is off by {error:.4f} of it"
        console.print(
            f"the sample of {report.target} itself has {report.on_policy:.6f}{told}",
            highlight=False,
        )
    if report.ips_more_draws is not None:
        console.print(f"ips with 400,000 draws: {report.ips_more_draws:.6f}", highlight=False)


def _print_settings(console: Console, report: ObdReport) -> None:
    if report.mean_relative_error is None:
        return
    table = Table(title="the default estimator's relative error against the full data")
    for column in ("campaign", "log", "target", "error", "gates"):
        table.add_column(column, justify="right" if column == "error" else "left")
    for s in report.settings:
        gates = ", ".join(refusal.gate for refusal in s.refusals)
        mark = f"forced: {gates}" if gates else "passed"
        table.add_row(s.campaign, s.behaviour, s.target, f"{s.relative_error:.3f}", mark)
    table.add_row("mean", "", "", f"{report.mean_relative_error:.3f}", "")
    console.print(table)
