"""The commands `nextswipe users export` and `nextswipe users forget`."""

from pathlib import Path
from typing import Annotated

import typer

from env.vocabulary import UserId
from serve.clock import now_ms
from serve.commands.settings import ConfigFile, DataFolder, StoreUrl, bar, load_settings

User = Annotated[str, typer.Argument(metavar="USER_ID", help="Your id of the user.")]


def register(app: typer.Typer) -> None:
    """Add the group `users`."""
    group = typer.Typer(no_args_is_help=True, help="Export what is kept of a user, or forget it.")
    group.command("export", epilog="Example: nextswipe users export ann ann.jsonl")(export)
    group.command("forget", epilog="Example: nextswipe users forget ann")(forget)
    app.add_typer(group, name="users")


def export(
    user_id: User,
    target: Annotated[Path, typer.Argument(metavar="PATH", help="File to write, JSON lines.")],
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Write all that is kept of a user, for the user; a server may be running.

    Profile, follows, blocks, every page with its cards, every event, and what was imported.
    """
    from serve.jobs.user_data import export_user
    from serve.store.data_folder import count_lines

    settings = load_settings(config, data, store)
    with bar("reading", count_lines(settings)) as advance:
        n = export_user(settings, UserId(user_id), target, advance)
    typer.echo(f"{n:,} lines in {target}")


def forget(
    user_id: User,
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Forget a user, as DELETE /v1/users/USER_ID does; a server may be running.

    Their state goes, and with it the id in the log: nothing then leads from them to their pages.
    """
    from serve.jobs.user_data import forget_user

    settings = load_settings(config, data, store)
    forget_user(settings, UserId(user_id), now_ms())
    typer.echo(f"forgot {user_id}")
