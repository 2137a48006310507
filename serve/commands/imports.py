"""The commands of `nextswipe import`: items, people, interactions, and a KuaiRand folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serve.clock import now_ms
from serve.commands.settings import ConfigFile, DataFolder, bar, load_settings


def register(app: typer.Typer) -> None:
    """Add the group `import`."""
    group = typer.Typer(no_args_is_help=True, help="Import items, people and what they saw.")
    group.command("kuairand", epilog="Example: nextswipe import kuairand kuairand_pure")(
        import_kuairand
    )
    group.command("items", epilog="Example: nextswipe import items catalogue.csv")(import_items)
    group.command("people", epilog="Example: nextswipe import people people.csv")(import_people)
    group.command("interactions", epilog="Example: nextswipe import interactions history.csv")(
        import_interactions
    )
    app.add_typer(group, name="import")


def import_kuairand(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder as KuaiRand publishes it.")],
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Import a KuaiRand folder: items, users, and a simulated world fitted to its impressions.

    The import is all or nothing, also while a server runs; a second import changes nothing.
    """
    from serve.importers import kuairand
    from serve.jobs import import_data as importing

    settings = load_settings(config, data)
    found = kuairand.read(folder)
    with bar("importing", len(found.items) + len(found.users)) as advance:
        imported = importing.import_kuairand(settings, found, now_ms(), advance)
    typer.echo(str(imported))
    typer.echo(f"response model: AUC {imported.response_auc:.3f} on the last day")
    tail = imported.tail
    typer.echo(
        f"plays longer than {tail.longer_than_s:.0f} s: {tail.impressions:.0%} of the impressions, "
        f"{tail.watch:.0%} of the watch time"
    )


def import_items(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, JSON lines or Parquet file, by its suffix.")
    ],
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Import a catalogue; its columns are the fields of an item, and only item_id is required.

    The import is all or nothing; unchanged items are skipped.
    """
    from serve.importers import items
    from serve.jobs import import_data as importing
    from serve.jobs.embed_items import embed_items

    settings = load_settings(config, data)
    found = items.read(file)
    at_ms = now_ms()
    with bar("embedding", 2 * len(found)) as advance:
        embedded = embed_items(settings, [line.item for line in found], at_ms, advance)
    with bar("importing", len(found)) as advance:
        counts = importing.import_lines(settings, file, found, at_ms, advance, embedded)
    typer.echo(f"{counts.total:,} items ({counts})")
    outcomes = embedded.outcomes
    if outcomes:
        typer.echo(
            f"embedded by {settings.content.embed}: {outcomes['vector']:,} with a vector, "
            f"{outcomes['none']:,} without, {outcomes['failed']:,} failed"
        )


ImportFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="CSV, JSON lines or Parquet file, by its suffix.")
]


def import_people(
    file: ImportFile,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Import users' profiles; columns are user_id and the fields of a profile.

    The import is all or nothing, also while a server runs; unchanged profiles are skipped.
    """
    from serve.importers import people
    from serve.jobs import import_users as importing

    settings = load_settings(config, data)
    found = people.read(file)
    with bar("importing", 2 * len(found)) as advance:
        counts = importing.import_people(settings, found, now_ms(), advance)
    changed = f"changed {counts.changed:,}, " if counts.changed else ""
    typer.echo(
        f"{len(found):,} users (new {counts.new:,}, {changed}unchanged {counts.unchanged:,})"
    )


def import_interactions(
    file: ImportFile,
    form: Annotated[
        Literal["own", "kuairand", "movielens"] | None,
        typer.Option("--format", help="Format of the columns; default: found by their names."),
    ] = None,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Import who saw which item when, how long, and what they did; items come first.

    Users' seen items and interests, items' statistics and what is seen together begin from it; it
    is no page, and no policy learns from it. The import is all or nothing, also while a server
    runs; views that are there already are skipped, so a file may grow and come again.
    """
    from serve.importers import history
    from serve.jobs import import_users as importing

    settings, at_ms = load_settings(config, data), now_ms()
    found = history.read(file, at_ms, form)
    with bar("importing", 2 * len(found.user_ids)) as advance:
        done = importing.import_views(settings, found, at_ms, file.name, advance)
    typer.echo(str(done))
