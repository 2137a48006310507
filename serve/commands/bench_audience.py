"""`nextswipe bench newcomers | floor | breakout`: who is served well, and who gets an audience."""

from typing import Annotated

import typer

from serve.commands.settings import AsJson, ConfigFile, load_settings
from serve.commands.shown import show
from serve.commands.steps import steps

Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
PresetName = Annotated[str, typer.Option(help="Of the world: a name, or a JSON file.")]
Items = Annotated[int, typer.Option(min=256, help="In the catalogue at the start.")]
CardsADay = Annotated[int, typer.Option(min=1_000, help="Of all people together.")]


def bench_newcomers(
    people: Annotated[int, typer.Option(min=250, help="Of the warm-up.")] = 4_000,
    warm_cards: Annotated[int, typer.Option(min=1_000, help="That they swipe.")] = 200_000,
    newcomers: Annotated[int, typer.Option(min=10, help="Who register then.")] = 500,
    known_after: Annotated[int, typer.Option(min=21, help="Swipes until they are known.")] = 300,
    items: Items = 4_096,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Serve new people their first 20 swipes, against popularity and against knowing them.

    It should show gain_over_popularity of .10 or more and share_of_warm of .80 or more. What is
    popular on the policy's own log is a rival as well (gain_on_same_log); gain_of_reference is what
    there is to be had over it.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.newcomers import NewcomersSize, run_newcomers

    size = NewcomersSize(
        people=250 * (people // 250),
        warm_cards=warm_cards,
        newcomers=newcomers,
        known_after=known_after,
        items=items,
    )
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_newcomers(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)


def bench_floor(
    people: Annotated[int, typer.Option(min=250, help="Who come in turn.")] = 20_000,
    cards_a_day: CardsADay = 200_000,
    days: Annotated[float, typer.Option(min=1.1, help="With uploads, before the surge.")] = 2.0,
    items: Items = 4_096,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Promise every upload its first audience, see what that costs, and let too many come.

    It should show met_share of .99 or more, cost and page_cost of .01 or less, in surge an alarm,
    gini_waiting below .3 and starved 0; redrawn_mismatches 0, and reserved_p above .01 over 100,000
    reserved_draws or more. The cost, against a world that learns for itself, hangs by as much again
    on what either learner happens to find: read it over several seeds. The page_cost does not.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.floor import run_floor
    from serve.bench.floor_figures import FloorSize

    size = FloorSize(people=250 * (people // 250), cards_a_day=cards_a_day, days=days, items=items)
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_floor(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)


def bench_breakout(
    people: Annotated[int, typer.Option(min=250, help="Who come in turn.")] = 20_000,
    cards: Annotated[int, typer.Option(min=10_000, help="That they see.")] = 1_000_000,
    cards_a_day: CardsADay = 250_000,
    uploads: Annotated[int, typer.Option(min=10, help="In all.")] = 400,
    items: Items = 4_096,
    attacked: Annotated[int, typer.Option(min=0, max=8, help="Videos to push; 0: none.")] = 8,
    preset: PresetName = "kuairand",
    seed: Seed = 1,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let uploads go through the pools, and let fake accounts push ordinary ones.

    It should show recall of .70 or more, precision of .65 or more, violations 0, boost_guarded of
    1.2 or less (boost_guarded_se says how far that hangs on the videos) and boost_unguarded of 5 or
    more. boost_old_accounts has no target: it says what old accounts from everywhere can do, which
    guards cannot tell from an audience.
    """
    from threadpoolctl import threadpool_limits

    from serve.bench.attack import AttackRuns
    from serve.bench.breakout import BreakoutSize, run_breakout

    size = BreakoutSize(
        people=250 * (people // 250),
        cards=cards,
        cards_a_day=cards_a_day,
        uploads=uploads,
        items=items,
        attack=AttackRuns(videos=attacked) if attacked else None,
    )
    settings = load_settings(config, None)
    with threadpool_limits(1, user_api="blas"), steps() as advance:
        result = run_breakout(size, preset=preset, seed=seed, advance=advance, config=settings)
    show(result, as_json)
