"""The job behind `nextswipe evaluate --obd DIR`: evaluates the Open Bandit Dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from serve.commands.progress import bar
from serve.commands.settings import print_json
from serve.refused import Refused

if TYPE_CHECKING:
    from rich.console import Console

    from serve.obd import ObdReport

Word = TypeVar("Word", bound=str)


def evaluate_obd(
    folder: Path,
    campaign: str,
    behaviour: str,
    target: str,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Evaluate one policy of the dataset on the log of the other, and print the report.

    Raises:
        Refused: there is no such campaign, policy or log.
        BadFile: a file of the dataset is invalid.
    """
    from serve import obd
    from serve.importers.obd import BEHAVIOURS, CAMPAIGNS

    asked = (
        _one_of(CAMPAIGNS, campaign, "--campaign"),
        _one_of(BEHAVIOURS, behaviour, "--behaviour"),
        _one_of(BEHAVIOURS, target, "--target"),
    )
    with bar("evaluating", obd.count_settings(folder)) as advance:
        report = obd.evaluate_obd(folder, *asked, force=force, advance=advance)
    if as_json:
        print_json(report)
    else:
        print_report(report)


def _one_of(allowed: tuple[Word, ...], word: str, option: str) -> Word:
    for each in allowed:
        if each == word:
            return each
    raise Refused(f"{option}: expected one of {', '.join(allowed)}, got {word!r}")


def print_report(report: "ObdReport") -> None:
    """Print refusals, estimates and errors as tables."""
    from rich.console import Console

    console = Console()
    for refusal in report.refusals:
        mark = "shown by force" if report.forced else "refused"
        console.print(f"{mark}: {refusal}; {refusal.advice}", highlight=False)
    _print_estimates(console, report)
    _print_settings(console, report)


def _print_estimates(console: "Console", report: "ObdReport") -> None:
    from rich.table import Table

    console.print(
        "the dataset names nobody: each impression counts as a person of its own, though three of "
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


def _print_settings(console: "Console", report: "ObdReport") -> None:
    from rich.table import Table

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
