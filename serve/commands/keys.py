"""The command `nextswipe keys`: API keys, and tokens for single users."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from serve.access.keys import SCOPES, Key, Scope, create_key, read_keys, revoke_key, rotate_key
from serve.clock import now_ms
from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    StoreUrl,
    load_settings,
    print_json,
)
from serve.errors import JobError
from serve.store.store import Transaction, write_now
from serve.wire.access import MAX_TTL_S

T = TypeVar("T")
DAY_MS = 86_400_000
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller that holds it.")]
Days = Annotated[
    float | None, typer.Option(min=0.0, help="Days after which it ends by itself; default: never.")
]
app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys.")


class KeyLine(msgspec.Struct, frozen=True):
    """A key as `nextswipe keys` tells of it.

    Attributes:
        state: "live", "ended" or "revoked".
        key: the whole key, when it is made and never again; empty later.
    """

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    state: str
    made_ms: int
    ends_ms: int
    revoked_ms: int
    used_ms: int
    per_second: float
    key: str = ""


def register(main: typer.Typer) -> None:
    """Add the commands."""
    main.add_typer(app, name="keys")


@app.command(epilog="Example: nextswipe keys create backend --scope feed --scope feedback")
def create(
    name: Name,
    scope: Annotated[
        list[str],
        typer.Option(metavar="NAME", help=f"May be given several times: {', '.join(SCOPES)}."),
    ],
    days: Days = None,
    per_second: Annotated[
        float, typer.Option(min=0.0, help="Requests a second on average, per replica; 0: any.")
    ] = 0.0,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Make a key and print it; nothing keeps it, so note it down now.

    From the first key on, every request to the server needs one. A running server knows it within a
    second.
    """
    scopes = _scopes(scope)
    at_ms = now_ms()
    made = partial(
        create_key,
        name=name,
        scopes=scopes,
        now_ms=at_ms,
        ends_ms=_ends_ms(at_ms, days),
        per_second=per_second,
    )
    _tell_made(*_write(made, config, data, store), as_json=as_json)


@app.command(epilog="Example: nextswipe keys rotate backend")
def rotate(
    name: Name,
    days: Days = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Make the next key of a name, with the same scopes, and print it; the old one stays live.

    Change the callers, then revoke the old one.
    """
    at_ms = now_ms()
    made = partial(rotate_key, name=name, now_ms=at_ms, ends_ms=_ends_ms(at_ms, days))
    _tell_made(*_write(made, config, data, store), as_json=as_json)


@app.command("list", epilog="Example: nextswipe keys list")
def list_keys(
    as_json: AsJson = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """List all keys ever made: scopes, state, and when each was last used."""
    from serve.store.data_folder import open_data

    with open_data(load_settings(config, data, store)) as opened, opened.view() as view:
        lines = [_line(key) for key in read_keys(view)]
    if as_json:
        print_json(lines)
    else:
        _print(lines)


@app.command(epilog="Example: nextswipe keys revoke abcdefghij")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id, as nextswipe keys list.")],
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Revoke a key for good; a running server refuses it, and tokens it made, within a second."""
    key = _write(partial(revoke_key, key_id=key_id, now_ms=now_ms()), config, data, store)
    typer.echo(f"{key.key_id} of {key.name} is revoked")


@app.command(epilog="Example: nextswipe keys token ann --seconds 600")
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user whom it is about.")],
    seconds: Annotated[int, typer.Option(min=1, max=MAX_TTL_S, help="Time for which it holds.")] = (
        3600
    ),
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
) -> None:
    """Print a token with which a browser asks for and reports on one user's cards.

    A server makes them by POST /v1/tokens. Open the page with it as http://HOST:PORT/#token=TOKEN.
    """
    from env.vocabulary import UserId
    from serve.access.callers import BY_OPERATOR, KeyRing
    from serve.limits import USER_ID_RULE, is_external_user_id
    from serve.store.data_folder import open_data
    from serve.tokens import load_secret

    if not is_external_user_id(user):
        raise JobError(f"USER: expected {USER_ID_RULE}, got {user!r}")
    settings = load_settings(config, data, store)
    with open_data(settings) as opened:
        ring = KeyRing(opened, load_secret(Path(settings.data.folder)), now_ms=now_ms)
        text, _ = ring.make_token(BY_OPERATOR, UserId(user), seconds)
    typer.echo(text)


def _write(
    work: Callable[[Transaction], T], config: Path | None, data: Path | None, store: str | None
) -> T:
    from serve.store.data_folder import open_data

    with open_data(load_settings(config, data, store), must_exist=False) as opened:
        return write_now(opened, work)


def _scopes(given: list[str]) -> list[Scope]:
    known = [scope for scope in SCOPES if scope in given]
    for scope in given:
        if scope not in SCOPES:
            raise JobError(f"--scope: expected one of {', '.join(SCOPES)}, got {scope!r}")
    return known


def _ends_ms(at_ms: int, days: float | None) -> int:
    return 0 if days is None else at_ms + round(days * DAY_MS)


def _line(key: Key, text: str = "") -> KeyLine:
    live = "live" if key.is_live(now_ms()) else "ended"
    return KeyLine(
        key.key_id,
        key.name,
        key.scopes,
        "revoked" if key.revoked_ms else live,
        key.made_ms,
        key.ends_ms,
        key.revoked_ms,
        key.used_ms,
        key.per_second,
        text,
    )


def _tell_made(key: Key, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_line(key, text))
    else:
        typer.echo(text)


def _print(lines: list[KeyLine]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not lines:
        typer.echo("no keys: anybody who reaches the server may call it")
        return
    table = Table()
    for name in ("id", "name", "scopes", "state", "made", "ends", "last used"):
        table.add_column(name)
    for line in lines:
        times = (line.made_ms, line.ends_ms, line.used_ms)
        table.add_row(line.key_id, line.name, " ".join(line.scopes), line.state, *map(_time, times))
    Console().print(table)


def _time(at_ms: int) -> str:
    if not at_ms:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
