"""The commands `nextswipe world story` and `nextswipe world export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serve.commands.progress import bar
from serve.commands.settings import AsJson, print_json, require_picture

if TYPE_CHECKING:
    from env.gym.choosers import ChooserName
    from env.world.presets import Preset


PresetName = Annotated[
    str, typer.Option(metavar="NAME", help="Preset: kuairand, daily, kuaisim, rapid, or a file.")
]

STORIES: tuple["ChooserName", ...] = ("myopic", "mixed")

PAGE = 6


def add(group: typer.Typer) -> None:
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
        raise JobError('a picture needs matplotlib: pip install "nextswipe[world]"') from error
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
        raise JobError('a dataset needs Minari: pip install "nextswipe[world]"') from error
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
