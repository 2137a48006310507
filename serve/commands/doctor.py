"""The command `nextswipe doctor`, which finds problems of the installation."""

import typer

from serve.commands.settings import (
    AsJson,
    ConfigFile,
    DataFolder,
    Host,
    Port,
    listening_at,
    load_settings,
    print_json,
)

EXAMPLE = "Example: nextswipe doctor --config settings.toml"
_SIGNS = {"well": "ok", "look": "look", "wrong": "WRONG"}


def register(app: typer.Typer) -> None:
    """Add the command `doctor`."""
    app.command("doctor", epilog=EXAMPLE)(doctor)


def doctor(
    config: ConfigFile = None,
    data: DataFolder = None,
    host: Host = None,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Check versions, ports, permissions, store, disk and memory, and measure a replica.

    The exit code is 1 if something is wrong; each problem is printed with its remedy.
    """
    from serve.processes.doctor import examine

    diagnosis = examine(listening_at(load_settings(config, data), host, port))
    if as_json:
        print_json(diagnosis)
    else:
        for finding in diagnosis.findings:
            typer.echo(f"{_SIGNS[finding.verdict]:6} {finding.check:9} {finding.says}")
    if not diagnosis.is_well:
        raise typer.Exit(1)
