"""The command `nextswipe audit policy`."""

from typing import TYPE_CHECKING, Annotated

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, print_json
from serve.refused import Refused

if TYPE_CHECKING:
    from serve.policy_audit import Figure, PolicyAudit

FIGURES = {
    "active days": "active_days",
    "mean bait": "bait",
    "cards of much bait": "bait_share",
    "topic entropy, nats": "topic_entropy",
    "visits beyond an hour": "long_visits",
    "watching beyond it": "overtime",
    "cards from 0 to 5 h": "night",
    "cards not interested in": "not_interested",
    "cards of the less seen half": "tail",
}
VISITS = {
    "cards a visit, p50 p95 p99": "visit_cards",
    "minutes a visit, p50 p95 p99": "visit_minutes",
}


def audit_policy(
    policies: Annotated[
        list[str],
        typer.Argument(
            help="uniform, myopic, mixed, the file of a ranker that was trained in this world (on "
            "its own columns or on a feed's), or MODULE:FUNCTION that takes a seed and returns a "
            "chooser of env.rollouts."
        ),
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Preset of the world: kuairand, daily, rapid, or a file."
        ),
    ] = "kuairand",
    people: Annotated[
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
    from env.presets import load
    from serve.policy_audit import audit_policy as audit
    from serve.policy_audit import open_world
    from serve.world_choosers import find_chooser

    try:
        env = open_world(load(preset), people, days)
    except ValueError as error:
        raise Refused(str(error)) from error
    makers = [find_chooser(name, env) for name in policies]
    audits = []
    with bar("living", len(policies)) as advance:
        for name, make in zip(policies, makers, strict=True):
            audits.append(audit(env, name, make(seed), seed))
            advance(1)
    if as_json:
        print_json(audits)
    else:
        _print(audits)


def _print(audits: "list[PolicyAudit]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    first = audits[0]
    table = Table(title=f"{first.people:,} people, up to {first.days} days, simulated")
    table.add_column("")
    for audit in audits:
        table.add_column(escape(audit.policy), justify="right")
    for title, name in FIGURES.items():
        table.add_row(title, *(_told(getattr(audit, name)) for audit in audits))
    for title, name in VISITS.items():
        table.add_row(
            title, *("  ".join(f"{n:,.0f}" for n in getattr(audit, name)) for audit in audits)
        )
    Console(highlight=False).print(table)


def _told(figure: "Figure") -> str:
    return f"{figure.value:.4f} ± {figure.se:.4f}"
