"""The command `nextswipe cohorts`."""

import typer

from policies.collaborative.cohorts import Cohort
from serve.commands.settings import AsJson, ConfigFile, DataFolder, load_settings, print_json
from serve.wire.cohorts import CohortsResponse


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: nextswipe cohorts --json")(cohorts)


def cohorts(as_json: AsJson = False, config: ConfigFile = None, data: DataFolder = None) -> None:
    """List the cohorts of users by behaviour, named by what they play more than everybody does.

    The learner finds them in the background, with the item factors; a server may be running.
    """
    from serve.learn.collaborative import read_generation
    from serve.store.data_folder import open_data

    settings = load_settings(config, data)
    with open_data(settings) as store:
        learned = read_generation(settings, store)
    told = CohortsResponse.of(learned.version, learned.cohorts)
    if as_json:
        print_json(told)
    else:
        _print(told)


def _print(told: CohortsResponse) -> None:
    from rich.console import Console
    from rich.table import Table

    if not told.cohorts:
        typer.echo("no cohorts yet: they are learned once enough users have answered some cards")
        return
    title = f"{told.users:,} users in cohorts, {told.unassigned:,} not known well enough"
    table = Table(title=title)
    table.add_column("", justify="right")
    table.add_column("cohort")
    for name in ("users", "share", "plays"):
        table.add_column(name, justify="right")
    for name in ("plays more of", "countries", "languages"):
        table.add_column(name)
    for cohort in told.cohorts:
        table.add_row(*_row(cohort))
    Console().print(table)


def _row(cohort: Cohort) -> tuple[str, ...]:
    return (
        str(cohort.cohort),
        cohort.name,
        f"{cohort.users:,}",
        f"{cohort.share:.1%}",
        f"{cohort.play_rate:.1%}",
        ", ".join(f"{tag.tag} ×{tag.lift:.1f}" for tag in cohort.tags),
        _mix(cohort.countries),
        _mix(cohort.languages),
    )


def _mix(shares: dict[str, float]) -> str:
    return ", ".join(f"{word} {share:.0%}" for word, share in shares.items())
