"""`nextswipe policy check`."""

from typing import Annotated

import typer

from serve.commands.settings import AsJson, ConfigFile, load_settings, print_json


def register(app: typer.Typer) -> None:
    """Add the group `policy`."""
    group = typer.Typer(no_args_is_help=True, help="Check policies of your own.")
    group.callback()(_several)
    group.command("check", epilog="Example: nextswipe policy check mine:shortest")(check)
    app.add_typer(group, name="policy")


def _several() -> None:
    """Have Typer take the group for one, although it has one command."""


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Factory of policies, or marked function from features to scores.",
        ),
    ],
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Hold a policy of your own to the laws, and tell which it breaks and how.

    The module is looked for in the folder of the settings (custom.folder), without --config in
    the current one, then among what is installed.

    Exit code 1: it breaks a law.
    """
    from policies.custom.contract import check_named
    from serve.learn.custom import custom_folder

    settings = load_settings(config, None)
    arms = (arm.explorer for arm in settings.experiment.arms if arm.policy == name)
    verdicts = check_named(
        name,
        custom_folder(settings),
        next(arms, None) or settings.feed.explorer,
        settings.custom.limit_ms / 1000,
    )
    if as_json:
        print_json(verdicts)
    else:
        for verdict in verdicts:
            state = "broken" if verdict.reason else "ok"
            told = (
                f"{verdict.sentence} But {verdict.reason}." if verdict.reason else verdict.sentence
            )
            typer.echo(f"{state:7} {verdict.law:10} {told}")
    if any(verdict.reason for verdict in verdicts):
        raise typer.Exit(1)
