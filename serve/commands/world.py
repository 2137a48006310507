"""The commands `nextswipe world`: fit, check, twin, story and export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
import typer

from serve.commands.settings import AsJson, bar, print_json, require_picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from env.calibration.checks import Check
    from env.calibration.identify import ParameterEstimate, WorldLog
    from env.gym.choosers import ChooserName
    from env.twin.policies import Graded
    from env.world.log_statistics import LogStatistics
    from env.world.presets import Preset


COLUMNS = (
    "policy",
    "share of optimal watch time",
    "of optimal days",
    "score, watch",
    "score, days",
    "cards a session",
    "seconds a card",
    "days between sessions",
    "active days",
    "D1",
    "D7",
    "D30",
    "active on a day, last ten",
)


def twin(as_json: AsJson = False) -> None:
    """Print the values of the reference policies of MiniSwipe, the exact twin.

    All figures are exact expectations: values by dynamic programming, habits over 60 days.
    """
    from threadpoolctl import threadpool_limits

    from env.twin.policies import grade_policies

    # The matrices are small: BLAS threads only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        grades = grade_policies()
    if as_json:
        print_json(grades)
        return
    from rich.console import Console
    from rich.table import Table

    optimum = grades.optimum
    table = Table(
        title=f"MiniSwipe over {grades.days} days; the optimum is {optimum['watch']:,.0f} s, or "
        f"{optimum['days']:.2f} days"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "policy" else "right")
    for graded in grades.policies:
        table.add_row(graded.policy, *cells(graded))
    Console().print(table)


def cells(graded: "Graded") -> list[str]:
    """Return the cells of a row, in the order of `COLUMNS`."""
    habits = graded.habits
    return [
        *(f"{share:.3f}" for share in graded.share.values()),
        *(f"{score:z.2f}" for score in graded.score.values()),
        f"{habits.session_swipes:.1f}",
        f"{habits.swipe_s:.1f}",
        f"{habits.gap_days:.2f}",
        f"{habits.active_days:.1f}",
        *(f"{share:.3f}" for share in (*habits.retention, habits.daily_active)),
    ]


NUMBERS = ("found", "at least", "at most")
STYLES = {"pass": "", "fail": "bold red", "unjudged": "dim"}

PresetName = Annotated[
    str, typer.Option(metavar="NAME", help="Preset: kuairand, daily, kuaisim, rapid, or a file.")
]


def register(app: typer.Typer) -> None:
    """Add the group `world`."""
    group = typer.Typer(
        no_args_is_help=True, help="Fit the simulated world to a log, and check it."
    )
    group.command("fit", epilog="Example: nextswipe world fit --log DIR --holdout 0.5")(fit)
    group.command("check", epilog="Example: nextswipe world check --picture world.png")(check)
    group.command("twin", epilog="Example: nextswipe world twin --json")(twin)
    _add_rollouts(group)
    app.add_typer(group, name="world")


def fit(
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="WorldLog in KuaiRand's columns (Parquet or CSV), its folder, or a data folder.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the preset here.")] = None,
    named: Annotated[
        str, typer.Option(metavar="NAME", help="Rebuild a shipped preset from its recipe.")
    ] = "",
    holdout: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.9, help="Keep out this latest share of the log, and predict it."
        ),
    ] = 0.0,
    session_cards: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Assume this mean session length, if the log holds only parts of sessions.",
        ),
    ] = None,
    cards: Annotated[
        int, typer.Option(min=1_000, help="Cards simulated in each calibration round.")
    ] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Fit a world to a log and write it as a preset of identified and assumed parameters.

    Prints the summary statistics of the fitted world beside those of the log and, with --holdout,
    beside those of the part that was kept out. Exit code 1 if one is outside of its band; the
    preset is written nevertheless.
    """
    from threadpoolctl import threadpool_limits

    from serve.errors import JobError
    from serve.jobs.fit_world import N_ROUNDS, fit_log, make_named

    found = None if log is None else _read(log)
    # The matrices are small: BLAS threads only wait for each other.
    with threadpool_limits(1, user_api="blas"), bar("simulating", cards * N_ROUNDS) as advance:
        if named:
            fitted = make_named(named, found, n_cards=cards, advance=advance)
        elif found is not None and log is not None:
            fitted = fit_log(
                found,
                out.stem if out else log.stem,
                f"`nextswipe world fit --log {log.name} --cards {cards}`",
                session_cards=session_cards,
                holdout=holdout,
                n_cards=cards,
                advance=advance,
            )
        else:
            raise JobError("expected --log FILE, or --named NAME for a shipped preset")
    if out is not None:
        out.write_bytes(fitted.preset.to_json() + b"\n")
    if as_json:
        print_json(fitted)
    else:
        checks = {
            "Simulated, against what it was made from": fitted.checks,
            "Simulated, against the part that was kept out": fitted.holdout,
        }
        _show_fit(fitted.preset.name, fitted.findings, checks)
    if missed := fitted.missed():
        names = ", ".join(f"{row.name} ({row.group})" for row in missed)
        typer.echo(f"outside of the band: {names}", err=True)
        raise typer.Exit(1)


def check(
    preset: PresetName = "kuairand",
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw the summary statistics here (.png, .svg; extra `world`)."
        ),
    ] = None,
    cards: Annotated[
        int, typer.Option(min=1_000, help="Cards shown to simulated users.")
    ] = 6_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated users.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check a world against its summary statistics, and its exact twin against dynamic programming.

    Prints a row for each check: the value found, its band, the verdict. Exit code 1 if one fails.
    Takes one or two minutes.
    """
    from threadpoolctl import threadpool_limits

    from env.world.presets import load
    from serve.errors import JobError
    from serve.jobs.check_world import Sizes, check_world

    try:
        world = load(preset)
    except ValueError as error:
        raise JobError(str(error)) from error
    with threadpool_limits(1, user_api="blas"), bar("checking", 2 * cards) as advance:
        checked = check_world(world, seed, Sizes(cards=cards), advance)
    if picture is not None:
        _draw(picture, world, checked.moments, checked.survival)
    if as_json:
        print_json(msgspec.structs.replace(checked, survival=()))
    else:
        _show_checks(f"The world {checked.preset}", checked.checks)
        typer.echo("passed" if checked.passed else "not passed")
    if not checked.passed:
        raise typer.Exit(1)


def _read(log: Path) -> "WorldLog":
    from serve.jobs.fit_world import read_log

    return read_log(log)


def _draw(file: Path, world: "Preset", found: "LogStatistics", survival: tuple[float, ...]) -> None:
    from env.report.moments import draw_moments
    from serve.errors import JobError

    if world.moments is None:
        return
    try:
        draw_moments(
            file,
            found,
            world.moments,
            np.array(survival),
            title=f"The world “{world.name}” beside the figures that it is made from",
            source=world.source,
        )
    except ImportError as error:
        raise JobError("a picture needs matplotlib: make install EXTRAS=world") from error
    except ValueError as error:
        raise JobError(f"{file}: {error}") from error


def _show_fit(
    name: str, findings: "Sequence[ParameterEstimate]", checks: "Mapping[str, Sequence[Check]]"
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"The world {name}")
    for column in ("", "came out at", "how it is known"):
        table.add_column(column)
    for finding in findings:
        style = "" if finding.identified else "dim"
        table.add_row(finding.name, finding.value, finding.how, style=style)
    if findings:
        Console().print(table)
    for title, rows in checks.items():
        if rows:
            _show_checks(title, rows)


def _show_checks(title: str, rows: "Sequence[Check]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("", "check", "found", "at least", "at most", "verdict"):
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    for row in rows:
        style = STYLES[row.verdict]
        numbers = (f"{number:.4g}" for number in (row.value, row.low, row.high))
        table.add_row(row.group, row.name, *numbers, row.verdict, style=style)
    Console().print(table)


STORIES: tuple["ChooserName", ...] = ("myopic", "mixed")
PAGE = 6


def _add_rollouts(group: typer.Typer) -> None:
    """Add both commands to the group `world`."""
    group.command("story", epilog="Example: nextswipe world story --out two-weeks.png")(story)
    group.command("export", epilog="Example: nextswipe world export --preset rapid --out DIR")(
        export
    )


def story(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Picture: .png, .svg or .pdf.")],
    preset: PresetName = "kuairand",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the user; default: the most average one.")
    ] = None,
    days: Annotated[int, typer.Option(min=2, max=31, help="Days shown.")] = 14,
    users: Annotated[int, typer.Option(min=2, help="Users behind the averages.")] = 512,
) -> None:
    """Draw one simulated user's days under two policies, side by side.

    One shows the card most likely to be watched; the other also avoids bait and repeats. Needs the
    extra `world`.
    """
    from env.report.story import average, most_average, tell
    from env.report.story_picture import draw_story
    from serve.errors import JobError

    require_picture(out)
    world = _load(preset)
    if world.laws != "swipe":
        raise JobError(f"a story is told card by card, and the laws of {world.name} are of slates")
    averages = []
    with bar("living", len(STORIES)) as advance:
        for policy in STORIES:
            averages.append(average(world, policy, 0, days, users))
            advance(1)
    user = most_average(averages) if seed is None else seed
    chosen = f"the most average of {users:,}" if seed is None else "chosen by its seed"
    try:
        draw_story(
            out,
            [tell(world, policy, user, days) for policy in STORIES],
            averages,
            title=f"{days} days of one user, under two ways of choosing the next card",
            source=f"Simulated world, preset {world.name}; user {user}, {chosen}. "
            "Topic names are labels.",
        )
    except ImportError as error:
        raise JobError("a picture needs matplotlib: make install EXTRAS=world") from error
    except ValueError as error:
        raise JobError(f"{out}: {error}") from error
    typer.echo(f"user {user} in {out}")


def export(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of Minari datasets.")],
    preset: PresetName = "rapid",
    policy: Annotated[
        Literal["uniform", "myopic", "mixed"], typer.Option(help="Policy that chooses the cards.")
    ] = "uniform",
    actions: Annotated[
        Literal["next", "page"], typer.Option(help="One card per step, or a page of 6.")
    ] = "next",
    reward: Annotated[
        Literal["watch", "engagement", "satisfaction", "retention", "mix"],
        typer.Option(help="Reward of the steps; the infos hold all of them."),
    ] = "engagement",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes, each a user's whole life.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first user.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write episodes of simulated users as a Minari dataset, for offline reinforcement learning.

    Load it with minari.load_dataset(ID) where MINARI_DATASETS_PATH is the folder. Needs the extra
    `world`; nothing is fetched.
    """
    from env.gym.choosers import chooser
    from env.gym.rollouts import export_minari
    from serve.errors import JobError

    world = _load(preset)
    options: dict[str, Any] = {"preset": preset, "actions": actions, "reward": reward}
    n_cards = PAGE if actions == "page" else 1
    dataset_id = f"nextswipe/{world.name}-{actions}-{policy}-v0"
    try:
        with bar("living", episodes) as advance:
            dataset = export_minari(
                "nextswipe/Swipe-v0",
                options,
                lambda first: chooser(policy, first, n_cards),
                out,
                dataset_id,
                n_episodes=episodes,
                seed=seed,
                policy=policy,
                description=f"SwipeEnv, preset {world.name}, policy {policy}, from seed {seed}",
                advance=advance,
            )
    except ImportError as error:
        raise JobError("a dataset needs Minari: make install EXTRAS=world") from error
    except ValueError as error:
        raise JobError(str(error)) from error
    told = {
        "dataset_id": dataset_id,
        "folder": str(out),
        "episodes": int(dataset.total_episodes),
        "steps": int(dataset.total_steps),
    }
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{told['episodes']:,} episodes, {told['steps']:,} steps: {dataset_id} in {out}")


def _load(preset: str) -> "Preset":
    from env.world.presets import load
    from serve.errors import JobError

    try:
        return load(preset)
    except ValueError as error:
        raise JobError(str(error)) from error
