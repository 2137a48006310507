import msgspec
import numpy as np
import pytest
from served_worlds import CONFIG
from typer.testing import CliRunner

from env.vocabulary import Floats, Ints
from tests.studies.commands import app
from tests.studies.fair_start.newcomers import NewcomersResult, NewcomersSize, run_newcomers
from tests.studies.served_world.cards import Shown
from tests.studies.served_world.paired import ratio_of

SIZE = NewcomersSize(
    users=250, warm_cards=1_000, newcomers=12, first=6, known_after=12, items=512, page=4
)


def test_newcomers_are_served_by_all_rivals_and_once_more_when_known() -> None:
    told: dict[str, tuple[int, int]] = {}

    def advance(step: str, done: int, total: int) -> None:
        told[step] = done, total

    result = run_newcomers(SIZE, preset="kuairand", seed=1, advance=advance, config=CONFIG)
    assert 8 <= result.compared <= SIZE.newcomers
    for curve, reward in (
        (result.by_swipe, result.reward),
        (result.by_swipe_popularity, result.reward_popularity),
        (result.by_swipe_warm, result.reward_warm),
    ):
        assert len(curve) == SIZE.first
        assert np.mean(curve) == pytest.approx(reward, abs=1e-4)
        assert 0.0 < reward < 2.0
    for gain, over in (
        (result.gain_over_popularity, result.reward_popularity),
        (result.gain_on_same_log, result.reward_same_log),
    ):
        assert gain == pytest.approx(result.reward / over - 1.0)
    assert result.share_of_warm == pytest.approx(result.reward / result.reward_warm)
    rewards = (
        result.reward,
        result.reward_popularity,
        result.reward_same_log,
        result.reward_reference,
        result.reward_warm,
        result.reward_used_up,
    )
    assert len(set(rewards)) == len(rewards)
    assert result.reward_reference == max(rewards)  # in such a small world nobody learns as much
    assert 0.0 < result.gain_se < 0.5
    assert 0.0 < result.gain_on_same_log_se < 0.5
    assert all(done >= total for done, total in told.values()), told
    assert set(told) == {
        "warm up",
        "warm up popular_feed@0",
        "first swipes",
        "get known",
    }


def test_a_ratio_is_that_of_means_per_card() -> None:
    mine = cards(np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0]))
    theirs = cards(np.array([0, 1, 1, 1]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert ratio_of(mine, theirs).value == pytest.approx(2.0)
    assert ratio_of(theirs, theirs).value == 1.0
    assert ratio_of(theirs, theirs).se == pytest.approx(0.0, abs=1e-12)


def test_a_ratios_error_is_how_far_it_is_off() -> None:
    rng, found, errors = np.random.default_rng(1), [], []
    for _ in range(400):
        user = rng.normal(1.0, 0.3, 60)  # what both have in common
        sides = []
        for level in (1.2, 1.0):
            n_cards = rng.integers(1, 6, 60)
            place = np.repeat(np.arange(60), n_cards)
            earned = level * user[place] + rng.normal(0.0, 0.2, len(place))
            sides.append(cards(place, earned))
        ratio = ratio_of(*sides)
        found.append(ratio.value)
        errors.append(ratio.se)
    assert np.mean(found) == pytest.approx(1.2, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)


def cards(place: Ints, expected: Floats) -> Shown:
    """Return cards of users that earned something."""
    zeros = np.zeros(len(place), dtype=np.int64)
    return Shown(zeros, place, zeros, zeros, zeros, zeros > 0, expected, expected)


def test_the_command_prints_one_json_object() -> None:
    small = "--users 250 --warm-cards 1000 --newcomers 10 --known-after 21 --items 512 --json"
    found = CliRunner().invoke(app, ["newcomers", *small.split()])
    assert found.exit_code == 0, found.output
    result = msgspec.json.decode(found.stdout)
    assert result["size"]["newcomers"] == 10
    assert set(result) == set(NewcomersResult.__struct_fields__)


@pytest.mark.parametrize(
    ("command", "figures"),
    [
        ("newcomers", ("gain_over_popularity", "share_of_warm")),
        ("floor", ("met_share", "cost", "gini_waiting", "starved", "redrawn_mismatches")),
        ("breakout", ("recall", "precision", "violations", "boost_guarded", "boost_unguarded")),
    ],
)
def test_help_says_what_each_figure_should_be(command: str, figures: tuple[str, ...]) -> None:
    text = (
        CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [command, "--help"]).output
    )
    assert all(figure in text for figure in figures), text
