"""The commands `nextswipe log export`, `nextswipe log verify` and `nextswipe log sources`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serve.commands.settings import AsJson, ConfigFile, DataFolder, bar, load_settings, print_json


def register(app: typer.Typer) -> None:
    """Add the group `log`."""
    group = typer.Typer(no_args_is_help=True, help="Export, verify and read the event log.")
    group.command("export", epilog="Example: nextswipe log export log.jsonl")(export)
    group.command("verify", epilog="Example: nextswipe log verify --json")(verify)
    group.command("sources", epilog="Example: nextswipe log sources --json")(sources)
    app.add_typer(group, name="log")


def export(
    target: Annotated[
        Path, typer.Argument(metavar="PATH", help="File to write, or folder for Parquet.")
    ],
    form: Annotated[
        Literal["jsonl", "parquet", "dsjson", "obp"],
        typer.Option(
            "--format",
            help="All lines as JSON, or decisions with their reward: as Parquet, as Vowpal "
            "Wabbit's dsjson, or as the arrays of the Open Bandit Pipeline (.npz).",
        ),
    ] = "jsonl",
    arm: Annotated[str, typer.Option(help="Export only decisions of this arm.")] = "",
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Write the log for other tools; a server may be running."""
    from serve.jobs import export as exporting
    from serve.store.data_folder import count_lines

    settings = load_settings(config, data)
    decisions = {
        "parquet": exporting.export_parquet,
        "dsjson": exporting.export_dsjson,
        "obp": exporting.export_obp,
    }
    with bar("exporting", count_lines(settings)) as advance:
        if form in decisions:
            n, unit = decisions[form](settings, target, arm=arm, advance=advance), "decisions"
        else:
            n, unit = exporting.export_lines(settings, target, advance), "lines"
    typer.echo(f"{n:,} {unit} in {target}")


def verify(as_json: AsJson = False, config: ConfigFile = None, data: DataFolder = None) -> None:
    """Fold the log again and redraw every page; a server may be running.

    Exit code 1: something differs from the log.
    """
    from serve.jobs.verify import verify_log
    from serve.store.data_folder import count_lines

    settings = load_settings(config, data)
    with bar("verifying", count_lines(settings)) as advance:
        verified = verify_log(settings, advance)
    if as_json:
        print_json(verified)
    else:
        typer.echo(
            f"{verified.n_pages:,} pages, {verified.n_decisions:,} decisions redrawn: "
            f"{verified.mismatches:,} mismatches, largest propensity error {verified.max_error:g}"
        )
        if verified.n_older:
            typer.echo(
                f"{verified.n_older:,} more pages are of an older feature encoding, which this "
                "release cannot draw again"
            )
        for code, n in verified.other_code.items():
            typer.echo(f"{n:,} more pages were drawn by other code: {code}")
        for violation in verified.violations:
            typer.echo(f"{violation.decision_id}: {violation.check}: {violation.message}")
    if not verified.is_clean:
        raise typer.Exit(1)


def sources(
    arm: Annotated[str, typer.Option(help="Count only cards of this arm.")] = "",
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Show what each retrieval source earned and found that no other did; a server may be running.

    A card counts for the source that is logged as its reason. Compare sources with care: the policy
    chooses among their proposals, so a source that finds what others find earns little by itself.
    """
    from rich.console import Console

    from serve.jobs.sources import count_sources, table
    from serve.store.data_folder import count_lines

    settings = load_settings(config, data)
    with bar("reading", count_lines(settings)) as advance:
        found = count_sources(settings, arm=arm, advance=advance)
    if as_json:
        print_json(found)
    else:
        Console().print(table(found))
