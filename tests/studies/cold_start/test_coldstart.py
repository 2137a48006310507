from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from env.arrays.reals import logistic
from env.columns.schema import DYNAMIC, N_DYNAMIC, N_SHARED, N_STATIC, SHARED
from env.vocabulary import Interaction, Page
from policies.baselines import UniformPolicy
from tests.studies.cold_start.arms import (
    DEFAULT,
    EPSILON,
    EPSILON_MEAN,
    EPSILONS,
    EXPLORERS,
    LINEAR,
    PEERS,
    REFERENCES,
    UNIFORM,
    FixedPlayer,
    Tuned,
    arms,
    references,
)
from tests.studies.cold_start.coldstart import (
    GRIDS,
    IN_A_QUARTER,
    ColdStartResult,
    ColdStartSize,
    run_coldstart,
)
from tests.studies.cold_start.figures import Run, figures_of, regret_ratio, run_of
from tests.studies.cold_start.pages import FLOOR, Service, play
from tests.studies.cold_start.swipe import SwipeSize, play_swipe
from tests.studies.cold_start.world import ColdWorld, WorldArgs, draw_world
from tests.studies.commands import app, print_result

SMALL = ColdStartSize(
    replicates=2,
    rounds=120,
    tuning=1,
    swipe_worlds=1,
    swipe=SwipeSize(users=8, turns=10, items=128, a_day=64.0, turns_a_day=2, n_candidates=8),
    world=WorldArgs(pool=20, n_candidates=6),
)


@pytest.fixture(scope="module")
def result() -> ColdStartResult:
    return run_coldstart(SMALL, seed=1, advance=silent, processes=1)


@pytest.fixture(scope="module")
def world() -> ColdWorld:
    return draw_world(WorldArgs(), 3_000, seed=1, replicate=0)


def silent(done: int) -> None:
    """Take progress."""


def run(regret: float) -> Run:
    return Run(0.5, regret, 0.1, 1.0, 0, 0, 1)


class Watched(FixedPlayer):
    """Uniform, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(UniformPolicy())
        self.pages: list[Page] = []
        self.interactions: list[Interaction] = []

    def learn(self, pages: Sequence[Page], interactions: Sequence[Interaction]) -> None:
        self.pages += pages
        self.interactions += interactions


def test_the_figures_do_not_depend_on_how_many_processes(result: ColdStartResult) -> None:
    told: list[int] = []
    again = run_coldstart(SMALL, seed=1, advance=told.append, processes=2)
    assert msgspec.json.encode(again) == msgspec.json.encode(result)
    assert sum(told) == SMALL.n_tasks == 4


def test_all_arms_are_listed_best_first(result: ColdStartResult) -> None:
    names = [arm.name for arm in result.arms]
    assert sorted(names) == sorted([*arms(Tuned()), *REFERENCES])
    regrets = [arm.regret.value for arm in result.arms]
    assert regrets == sorted(regrets)
    replicates = {arm.name: arm.replicates for arm in result.arms}
    assert {replicates[name] for name in IN_A_QUARTER} == {1}
    assert {n for name, n in replicates.items() if name not in IN_A_QUARTER} == {2}
    assert {*EXPLORERS, *PEERS, *REFERENCES} == IN_A_QUARTER
    assert result.swipe is not None
    assert sorted(arm.name for arm in result.swipe.arms) == sorted(set(arms(Tuned())) - {*PEERS})


def test_the_figures_are_those_of_the_default(result: ColdStartResult) -> None:
    assert result.swipe is not None
    for comparison in (result, result.swipe):
        arm = {arm.name: arm for arm in comparison.arms}
        default, linear = arm[DEFAULT], min(arm[name].regret.value for name in LINEAR)
        assert comparison.regret == default.regret.value
        assert (comparison.p_20, comparison.gini) == (default.p_20.value, default.gini.value)
        assert arm[comparison.best_linear].regret.value == linear
        assert comparison.regret_ratio_best_linear == pytest.approx(comparison.regret / linear)
        epsilon = min(arm[name].regret.value for name in EPSILONS)
        assert arm[comparison.best_epsilon].regret.value == epsilon
        of_epsilon = comparison.regret / epsilon
        assert comparison.regret_ratio_epsilon == pytest.approx(of_epsilon)
        for name, (low, high) in comparison.intervals.items():
            assert low <= getattr(comparison, name) <= high


def test_bandits_are_tuned_on_enough_replicates_and_arguments() -> None:
    assert ColdStartSize().tuning >= 6
    assert all(len(set(grid)) == len(grid) >= 8 for grid in GRIDS.values())
    assert not set(GRIDS).symmetric_difference(LINEAR)


def test_one_epsilon_hopes_for_what_is_little_known_and_the_other_does_not(
    world: ColdWorld,
) -> None:
    """Two items that earned the same, one on 60 cards and one on 2."""
    index, shared = np.array([0, 1]), np.zeros(N_SHARED, np.float32)
    shared[SHARED.index("evidence")] = 1.0
    dynamic = np.zeros((2, N_DYNAMIC), np.float32)
    watched = Watched()
    question = Service(watched, world.catalogue, b"key")
    question.draw("q", index, shared, dynamic)
    question.close([0.0])
    question.refresh()
    scores = {}
    for name in EPSILONS:
        player = arms(Tuned())[name]()
        service = Service(player, world.catalogue, b"key")
        for t in range(62):
            item = int(t >= 60)
            service.draw(str(t), index[item : item + 1], shared, dynamic[:1])
            service.close([float(t % 2)])
        service.refresh()
        policy = player.serving(1)
        assert policy.explorer == {"kind": "epsilon", "epsilon": 0.05}
        scores[name] = policy.score(watched.pages[0].context)
    hope = scores[EPSILON] - scores[EPSILON_MEAN]
    assert 0.0 < hope[0] < hope[1]


def test_tables_name_every_arm(result: ColdStartResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result)
    shown = capsys.readouterr().out
    for name in (
        *arms(Tuned()),
        *REFERENCES,
        "regret_ratio_epsilon",
        "best_linear",
        "best_epsilon",
    ):
        assert name in shown


def test_help_says_what_each_figure_should_be() -> None:
    shown = CliRunner().invoke(app, ["coldstart", "--help"], terminal_width=200).output
    said = " ".join(shown.split())
    for figure in ("1.05 or less", ".85 or less", ".61 or more", ".62 or less", "on 6 replicates"):
        assert figure in said


def test_the_log_odds_have_the_scales_they_should(world: ColdWorld) -> None:
    args = world.args
    scale = args.affinity_sd * np.sqrt(args.n_dims)
    log_odds = np.log(world.expected / (1.0 - world.expected))
    rest = args.intercept + scale * world.match + world.quality[world.offered]
    np.testing.assert_allclose(log_odds, rest, rtol=1e-6, atol=1e-9)
    # Matches of unit vectors in d dimensions have variance 1 / d.
    assert world.match.std() * scale == pytest.approx(args.affinity_sd, rel=0.03)
    hidden, n = world.quality - world.known, len(world.known)
    assert abs(hidden.std() - args.hidden_sd) < 4.0 * args.hidden_sd / np.sqrt(2.0 * n)
    # What features tell is a draw of d weights: its variance is a mean of d squares.
    assert abs(world.known.var() / args.content_sd**2 - 1.0) < 4.0 * np.sqrt(2.0 / args.n_dims)


def test_uploads_take_the_place_of_the_oldest(world: ColdWorld) -> None:
    pool, half = world.args.pool, world.n_rounds // 2
    assert world.offered[0].max() < pool
    oldest, newest = world.offered.min(axis=1), world.offered.max(axis=1)
    assert (newest - oldest < pool).all()
    first = np.array([np.flatnonzero((world.offered == i).any(axis=1))[0] for i in world.ended])
    last = np.array([np.flatnonzero((world.offered == i).any(axis=1))[-1] for i in world.ended])
    assert (last - first < half).all()
    assert (last - first).mean() > 0.98 * half
    assert len(world.ended) == pool - 1
    assert all(len(set(row)) == world.args.n_candidates for row in world.offered.tolist())


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 200 rounds, got 199"):
        draw_world(WorldArgs(), 199, seed=1, replicate=0)


def test_pages_carry_what_the_log_says_and_spread_the_floor_over_the_unknown(
    world: ColdWorld,
) -> None:
    player = Watched()
    service = Service(player, world.catalogue, b"key")
    index, shared = np.arange(4), np.zeros(N_SHARED, np.float32)
    dynamic = np.zeros((4, N_DYNAMIC), np.float32)
    dynamic[:, DYNAMIC.index("long_match")] = 0.25
    # Item 0 is shown until it is known; the others stay unknown.
    for t in range(40):
        service.draw(str(t), index[:1], shared, dynamic[:1])
        service.close([1.0])
    service.refresh()
    assert len(player.pages) == len(player.interactions) == 40
    assert service.impressions[:2].tolist() == [40.0, 0.0]
    action = service.draw("last", index, shared, dynamic)
    service.close([0.0])
    service.refresh()
    page, interaction = player.pages[-1], player.interactions[-1]
    assert page.slots[0].eligible.tolist() == [False, True, True, True]
    assert page.eps == FLOOR
    columns = page.context.features.actions[:, N_STATIC:]
    mean, sd, evidence = (
        columns[:, DYNAMIC.index(name)] for name in ("reward_mean", "reward_sd", "item_evidence")
    )
    assert mean[0] > mean[1] == mean[2]
    assert sd[0] < sd[1] == sd[2]
    assert evidence[0] == pytest.approx(np.log1p(40) / np.log1p(1000), abs=1e-3)
    assert (columns[:, DYNAMIC.index("long_match")] == 0.25).all()
    floor = 0.0 if action == 0 else FLOOR / 3
    assert interaction.propensity == pytest.approx((1.0 - FLOOR) / 4 + floor)
    assert (interaction.reward, interaction.n_actions) == (0.0, 4)


def test_uniform_earns_the_mean_and_knowing_more_earns_more(world: ColdWorld) -> None:
    uniform = play(world, arms(Tuned())[UNIFORM](), b"key")
    mean, spread = world.expected.mean(), world.expected.std() / np.sqrt(world.n_rounds)
    assert abs(uniform.reward - mean) < 4.0 * spread
    assert uniform.reward + uniform.regret == pytest.approx(world.expected.max(axis=1).mean())
    known = {name: play(world, make(), b"key") for name, make in references(world).items()}
    assert known["features only"].regret < 0.5 * uniform.regret
    assert known["greedy posterior"].regret < known["features only"].regret
    assert known["greedy posterior"].regret < known["posterior, epsilon .05"].regret


def test_every_arm_learns_in_a_world_of_few_items() -> None:
    easy = WorldArgs(pool=5, n_candidates=5, affinity_sd=0.0, content_sd=0.0, hidden_sd=3.0)
    world = draw_world(easy, 400, seed=2, replicate=0)
    uniform = play(world, FixedPlayer(UniformPolicy()), b"key")
    for name, make in arms(Tuned()).items():
        if name != UNIFORM:
            assert play(world, make(), b"key").regret < uniform.regret, name


def test_what_is_hidden_of_an_item_is_found(world: ColdWorld) -> None:
    n, item, rng = 1_500, int(np.argmax(world.quality)), np.random.default_rng(5)
    player = references(world)["greedy posterior"]()
    service = Service(player, world.catalogue, b"key")
    index, shared = np.array([item]), np.zeros(N_SHARED, np.float32)
    dynamic = np.zeros((1, N_DYNAMIC), np.float32)
    truth = world.args.intercept + float(world.quality[item])
    for t in range(n):
        service.draw(str(t), index, shared, dynamic)
        service.close([float(rng.random() < float(logistic(truth)))])
    service.refresh()
    page = Watched()
    other = Service(page, world.catalogue, b"key")
    other.draw("p", index, shared, dynamic)
    other.close([0.0])
    other.refresh()
    said = float(player.serving(0).score(page.pages[0].context)[0])
    chance = float(logistic(truth))
    assert abs(said - truth) < 4.0 / np.sqrt(n * chance * (1.0 - chance))


def test_an_upload_in_swipe_env_is_counted_when_its_life_ended() -> None:
    player = Watched()
    run = play_swipe(player, SMALL.swipe, seed=3)
    # Two days of 64 uploads fill the stock, so of 4 days' uploads those of the first 2 ended.
    assert 0 < run.best < 64
    assert 0.0 < run.regret < run.reward + run.regret
    assert len(player.interactions) == len(player.pages) <= SMALL.swipe.users * SMALL.swipe.turns
    shown = {p.context.candidates[p.decisions[0].action] for p in player.pages}
    assert shown == {i.item_id for i in player.interactions}


def test_a_swipe_world_in_which_no_upload_ends_is_refused() -> None:
    short = msgspec.structs.replace(SMALL.swipe, turns=3)
    with pytest.raises(ValueError, match="turns enough for an upload to live its life, got 3"):
        play_swipe(Watched(), short, seed=3)


def test_ginis_and_breakouts_are_counted() -> None:
    counts, quality = np.array([10, 20, 150, 149, 500, *[60] * 5]), np.arange(10.0)
    counted = run_of(0.5, 0.1, counts, quality[::-1], even_share=60.0)
    assert (counted.hits, counted.broke_out, counted.best, counted.p_20) == (0, 2, 1, 0.9)
    figures = figures_of("arm", [counted, counted])
    assert (figures.recall, figures.precision) == (0.0, 0.0)
    shares = run_of(0.5, 0.1, np.array([1, 3]), np.arange(2.0), even_share=2.0)
    assert shares.gini == pytest.approx(0.25)
    nothing = run_of(0.5, 0.1, np.zeros(2, dtype=np.int64), np.arange(2.0), even_share=1.0)
    assert nothing.gini == 0.0
    none = run_of(0.5, 0.1, np.full(10, 60), quality, even_share=60.0)
    assert figures_of("arm", [none]).precision is None


def test_a_ratio_of_regrets_has_the_interval_of_paired_differences() -> None:
    rng = np.random.default_rng(4)
    shared = 0.05 + 0.01 * rng.random(40)
    one, other = [run(x) for x in 0.8 * shared], [run(x) for x in shared]
    exact = regret_ratio(one, other)
    assert exact.value == pytest.approx(0.8)
    assert exact.high - exact.low < 1e-12  # they move together, so nothing is uncertain
    noisy = [run(x) for x in 0.8 * shared + 0.01 * rng.normal(size=40)]
    wide = regret_ratio(noisy, other)
    se = 0.01 / np.sqrt(40) / shared.mean()
    assert wide.high - wide.low == pytest.approx(2 * 2.02 * se, rel=0.4)
    with pytest.raises(ValueError, match="same replicates, got 1 and 2"):
        regret_ratio(one[:1], other[:2])
