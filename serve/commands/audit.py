"""The command `nextswipe audit`, and the group with `nextswipe audit policy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.audit_policy import audit_policy
from serve.commands.progress import bar
from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    load_settings,
    print_json,
    require_picture,
)
from serve.refused import Refused

if TYPE_CHECKING:
    from serve.audit_wire import Audit
    from serve.config import Config
    from serve.folds import Folds

N_UPLOADS = 20
"""Uploads listed on the terminal and the page; JSON lists all."""


def register(app: typer.Typer) -> None:
    """Add the group `audit`, which is also a command."""
    group = typer.Typer(
        invoke_without_command=True,
        epilog="Example: nextswipe audit --market GB --picture audit.png",
    )
    group.callback()(audit)
    group.command("policy", epilog="Example: nextswipe audit policy myopic mixed")(audit_policy)
    app.add_typer(group, name="audit")


def audit(
    context: typer.Context,
    market: Annotated[
        str, typer.Option(help="Audit the uploads of one home country, such as GB.")
    ] = "",
    from_log: Annotated[
        bool,
        typer.Option(
            "--from-log", help="Fold the log again, up to the offset of the newest snapshot."
        ),
    ] = False,
    uploads: Annotated[
        int | None,
        typer.Option(min=0, help="Number of uploads to list, the latest first.", show_default="20"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the audit as one HTML page.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the audit as .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Check whether every upload got its guaranteed audience, and which ones broke out.

    Promotions are judged by the feed's present knowledge; the truth is known in simulation only. A
    server may be running. With --json all uploads are listed.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from serve.auditing import Findings, is_home, make_audit
    from serve.folds import Shown

    if picture is not None:
        require_picture(picture)
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise Refused(f"--html: expected a file in a folder that is there, got {html}")
    if market and not is_home(market):
        raise Refused(f"--market: expected a country as GB, got {market}")
    settings = load_settings(config, data)
    folds = _folds(settings, from_log)
    findings = Findings.of(folds, Shown.of(folds, market))
    limit = N_UPLOADS if uploads is None and not as_json else uploads
    made = make_audit(findings, limit=limit)
    _draw(made, html, picture)
    if as_json:
        print_json(made)
    else:
        _print(made)


def _refuse_options(context: typer.Context) -> None:
    """Refuse options given before a subcommand, which would be ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            raise Refused(
                f"{parameter.opts[0]}: not looked at before {context.invoked_subcommand}; leave it "
                "out, or put it behind"
            )


def _folds(settings: "Config", from_log: bool) -> "Folds":
    from serve.audit_reading import fold_log, read_snapshot
    from serve.data_folder import count_lines

    if not from_log:
        return read_snapshot(settings)
    with bar("folding", count_lines(settings)) as advance:
        return fold_log(settings, advance)


def _print(made: "Audit") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from serve.audit_picture import headline, source
    from serve.audit_words import sentences, tables

    console = Console(highlight=False)
    console.print(headline(made), markup=False, soft_wrap=True)
    for cells in tables(made):
        table = Table(title=escape(cells.title))
        for place, column in enumerate(cells.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in cells.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for sentence in (*sentences(made), source(made)):
        console.print(sentence, markup=False, soft_wrap=True)


def _draw(made: "Audit", html: Path | None, picture: Path | None) -> None:
    from serve.audit_page import audit_html
    from serve.audit_picture import draw_audit

    try:
        if html is not None:
            html.write_text(audit_html(made), encoding="utf-8")
        if picture is not None:
            draw_audit(picture, made)
    except ImportError as error:
        raise Refused('a picture needs matplotlib: pip install "nextswipe[world]"') from error
