"""The command `nextswipe audit`, and the group with `nextswipe audit policy`."""

from pathlib import Path
from typing import Annotated

import typer

from serve.audit.response import Audit
from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    bar,
    load_settings,
    print_json,
    require_picture,
)
from serve.config import Config
from serve.errors import JobError
from serve.learn.served import Folds


def audit_policy(
    policies: Annotated[
        list[str],
        typer.Argument(
            help="uniform, myopic, mixed, the file of a ranker that was trained in this world (on "
            "its own columns or on a feed's), or MODULE:FUNCTION that takes a seed and returns a "
            "chooser of env.gym.rollouts."
        ),
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Preset of the world: kuairand, daily, rapid, or a file."
        ),
    ] = "kuairand",
    users: Annotated[
        int, typer.Option(min=2, help="Simulated users, the same for each policy.")
    ] = 1_000,
    days: Annotated[int, typer.Option(min=1, help="Longest life, in days.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first user.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Report effects of policies on the users of the simulated world, beyond their reward.

    The figures are bait shown, variety, length of visits, nights, dislikes, and the share of videos
    that few have seen. A policy trained for retention may exploit these without being asked to, so
    compare it with policies that you know.
    """
    from env.world.presets import load
    from serve.jobs.policy_audit import audit_policy as audit
    from serve.jobs.policy_audit import find_chooser, open_world, print_audits

    try:
        env = open_world(load(preset), users, days)
    except ValueError as error:
        raise JobError(str(error)) from error
    makers = [find_chooser(name, env) for name in policies]
    audits = []
    with bar("living", len(policies)) as advance:
        for name, make in zip(policies, makers, strict=True):
            audits.append(audit(env, name, make(seed), seed))
            advance(1)
    if as_json:
        print_json(audits)
    else:
        print_audits(audits)


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
    from serve.audit.audit import AuditInputs, is_home, make_audit
    from serve.audit.exposure import ItemColumns

    if picture is not None:
        require_picture(picture)
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise JobError(f"--html: expected a file in a folder that is there, got {html}")
    if market and not is_home(market):
        raise JobError(f"--market: expected a country as GB, got {market}")
    settings = load_settings(config, data)
    folds = _folds(settings, from_log)
    findings = AuditInputs.of(folds, ItemColumns.of(folds, market))
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
            raise JobError(
                f"{parameter.opts[0]}: not looked at before {context.invoked_subcommand}; leave it "
                "out, or put it behind"
            )


def _folds(settings: Config, from_log: bool) -> Folds:
    from serve.audit.read import fold_log, read_snapshot
    from serve.store.data_folder import count_lines

    if not from_log:
        return read_snapshot(settings)
    with bar("folding", count_lines(settings)) as advance:
        return fold_log(settings, advance)


def _print(made: Audit) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from serve.audit.picture import headline, source
    from serve.audit.words import sentences, tables

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


def _draw(made: Audit, html: Path | None, picture: Path | None) -> None:
    from serve.audit.html import audit_html
    from serve.audit.picture import draw_audit

    try:
        if html is not None:
            html.write_text(audit_html(made), encoding="utf-8")
        if picture is not None:
            draw_audit(picture, made)
    except ImportError as error:
        raise JobError("a picture needs matplotlib: make install EXTRAS=world") from error
