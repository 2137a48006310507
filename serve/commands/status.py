"""The command `nextswipe status`: who serves a data folder, if it is ready, what it learned."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import typer

from serve.clock import now_ms
from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    StoreUrl,
    load_settings,
    print_json,
)
from serve.config import Config
from serve.monitoring.heartbeats import Heartbeats
from serve.monitoring.status import Overview, read_store
from serve.store.data_folder import Holder, find_server, open_data
from serve.store.generations import NOTHING

EXAMPLE = "Example: nextswipe status --data ./data"
ASK_S = 5.0


class ServerStatus(msgspec.Struct, frozen=True):
    """What is known about the server of a data folder.

    Attributes:
        served_by: process, machine and address; None: nobody serves it.
        is_ready: whether feeds are answered and learned from.
        says: why it is not ready, in one sentence.
        learner: "learning", "stopped", "silent" or "none".
        items: in the catalogue.
        lines: of the log.
        version: of the model; 0: none was published.
        behind: offsets of the log that the version does not know yet.
    """

    served_by: Holder | None
    is_ready: bool
    says: str
    learner: str
    items: int
    lines: int
    version: int
    behind: int


def register(app: typer.Typer) -> None:
    """Add the command `status`."""
    app.command("status", epilog=EXAMPLE)(status)


def status(
    config: ConfigFile = None,
    data: DataFolder = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say who serves a data folder, whether it is ready, and what it has learned.

    The exit code is 1 unless a server is ready.
    """
    settings = load_settings(config, data, store)
    found = look(settings)
    if as_json:
        print_json(found)
    else:
        for name, says in _rows(settings, found):
            typer.echo(f"{name:9} {says}")
    if not found.is_ready:
        raise typer.Exit(1)


def look(config: Config) -> ServerStatus:
    """Return the status of a data folder and its server.

    Raises:
        JobError: there is no store, or it cannot be read.
    """
    with open_data(config, now_ms=now_ms) as store, store.view() as view:
        items, lines = len(view.item_ids()), store.log.count()
        readings = read_store(store, view)
    holder = find_server(config)
    beats = Heartbeats(Path(config.data.folder)).read()
    learner = Overview(now_ms(), beats, readings).learner_health.state
    is_ready, says = _ask(holder)
    version = readings.version or NOTHING
    return ServerStatus(
        served_by=holder,
        is_ready=is_ready,
        says=says,
        learner=learner,
        items=items,
        lines=lines,
        version=version.version,
        behind=readings.offset - version.offset,
    )


def _ask(holder: Holder | None) -> tuple[bool, str]:
    """Return whether a server is ready, and the reason if not."""
    if holder is None:
        return False, "start it: nextswipe up"
    try:
        with urllib.request.urlopen(f"{holder.address}/readyz", timeout=ASK_S) as answer:  # noqa: S310
            told = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            told = json.load(error)
    except (OSError, ValueError) as error:
        return False, f"it does not answer: {error}"
    return bool(told.get("ready")), told.get("detail", "")


def _rows(config: Config, found: ServerStatus) -> list[tuple[str, str]]:
    by = "nobody" if found.served_by is None else str(found.served_by)
    return [
        ("folder", config.data.folder),
        ("served by", by),
        ("ready", "yes" if found.is_ready else f"no: {found.says}"),
        ("learner", found.learner),
        ("model", f"version {found.version}, {found.behind:,} lines of the log behind"),
        ("log", f"{found.lines:,} lines"),
        ("items", f"{found.items:,}"),
    ]
