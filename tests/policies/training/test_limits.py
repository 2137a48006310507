"""Limits of a policy: their multipliers, what is learned of rare events, trainings that obey."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from small_worlds import PRESET

pytest.importorskip("ray.rllib", reason="the extra `train` is not installed", exc_type=ImportError)
pytest.importorskip("torch", reason="the extra `train` is not installed", exc_type=ImportError)

from env.vocabulary import Floats
from env.world.objective import Objective
from policies.training.layout import ObservationLayout
from policies.training.limits import ENOUGH, INTEGRAL, PROPORTIONAL, Constraints, Multipliers
from policies.training.lived import LifeEvents, life_events
from policies.training.ppo.advantages import Steps
from policies.training.ppo.job import Progress, running_ray, train
from policies.training.ppo.restraint import RIDGE, ConstrainedAdvantages, EventModel
from policies.training.settings import FeedWorld, RetentionArgs, TwinWorld
from policies.training.worlds import open_world

HATE, EXPOSURE = Constraints(most_hate=0.1), Constraints(least_exposure=0.4)
BOTH = Constraints(most_hate=0.06, least_exposure=0.7)
N = 2_000
"""Cards of an iteration, of which more than ENOUGH have either event at its bound."""


def _shares(lived: LifeEvents) -> list[float]:
    shares: list[float] = (lived.counts.sum(axis=1) / lived.cards.sum()).tolist()
    return shares


def _events(share: float) -> Floats:
    return (np.arange(N) < round(share * N)).astype(np.float64)[:, None]


# --- multipliers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "broken", "slack"), [(HATE, 0.12, 0.08), (EXPOSURE, 0.32, 0.48)]
)
def test_a_multiplier_rises_while_its_limit_is_broken_and_falls_to_0_with_slack(
    limits: Constraints, broken: float, slack: float
) -> None:
    multipliers = Multipliers(limits.listed())
    up = [float(multipliers.follow(_events(broken))[0]) for _ in range(10)]
    assert up == pytest.approx([PROPORTIONAL * 0.2 + INTEGRAL * 0.2 * (k + 1) for k in range(10)])
    down = [float(multipliers.follow(_events(slack))[0]) for _ in range(12)]
    assert (np.diff(down) <= 0.0).all()
    assert down[-1] == 0.0
    # Slack is not saved up: a limit that is broken again is felt at once.
    assert multipliers.follow(_events(broken))[0] == pytest.approx(up[0])


def test_a_bound_far_out_of_reach_moves_no_faster_than_one_that_is_missed_twofold() -> None:
    first, second = (Multipliers(HATE.listed()).follow(_events(share)) for share in (0.2, 0.9))
    assert first.tolist() == second.tolist() == [PROPORTIONAL + INTEGRAL]


def test_a_rare_event_is_followed_over_as_many_cards_as_have_enough_of_them() -> None:
    bound = ENOUGH / N / 10.0
    multipliers = Multipliers(Constraints(most_hate=bound).listed())
    multipliers.follow(np.zeros((N, 1)))
    (held,) = multipliers.held
    assert held.share == pytest.approx(0.9 * bound)
    assert held.multiplier == 0.0
    for _ in range(60):
        multipliers.follow(_events(2.0 * bound))
    assert multipliers.held[0].share == pytest.approx(2.0 * bound, rel=0.01)


def test_multipliers_that_were_put_down_go_on_as_those_that_were_not() -> None:
    straight, resumed = (Multipliers(HATE.listed()) for _ in range(2))
    for share in (0.15, 0.3, 0.05):
        straight.follow(_events(share))
    resumed.restore(straight.state())
    assert resumed.held == straight.held
    assert resumed.follow(_events(0.2)).tolist() == straight.follow(_events(0.2)).tolist()


@pytest.mark.parametrize("bound", [0.0, 1.0, -0.1, float("nan")])
def test_a_bound_that_is_no_share_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match=r"expected most_hate in \(0, 1\), got"):
        Constraints(most_hate=bound)


def test_limits_are_not_of_the_twin() -> None:
    with pytest.raises(ValueError, match="expected the full world with limits"):
        RetentionArgs(TwinWorld(), limits=HATE)


# --- what cards do to limits ----------------------------------------------------------------------


def test_slopes_of_an_event_are_those_of_its_chance() -> None:
    rng, slope, n = np.random.default_rng(1), np.array([0.01, 0.0, -0.005]), 400_000
    rows = rng.normal(2.0, 1.0, (n, 4)).astype(np.float32)
    rows[:, 3] = 7.0
    chance = 0.05 + (rows[:, :3] - 2.0) @ slope
    events = (rng.random(n) < chance).astype(np.float64)
    model = EventModel(4)
    for part in np.split(np.arange(n), 4):
        model.learn(rows[part], events[part])
    found, error = model.slopes(), np.sqrt(0.05 * 0.95 / n)
    assert np.abs(found[:3] - slope).max() < 4.0 * error
    assert found[3] == 0.0


def test_as_many_events_as_the_ridge_halve_a_slope() -> None:
    rows = np.array([[-1.0], [1.0]], dtype=np.float32).repeat(500, axis=0)
    events = np.zeros(1_000)
    events[500 : 500 + int(RIDGE)] = 1.0
    model = EventModel(1)
    model.learn(rows, events)
    assert model.slopes()[0] == pytest.approx(0.5 * RIDGE / 1_000)
    assert EventModel(2).slopes().tolist() == [0.0, 0.0]


def test_under_limits_cards_of_the_tail_gain_and_candidates_that_are_disliked_lose() -> None:
    layout, rng = ObservationLayout(n_user=1, n_candidates=2, n_item=1), np.random.default_rng(2)
    observations = rng.normal(size=(N, 3)).astype(np.float32)
    actions = rng.integers(2, size=N)
    shown = observations[np.arange(N), 1 + actions]
    dislikes = (rng.random(N) < np.clip(0.2 + 0.1 * shown, 0.0, 1.0)).astype(np.float64)
    tail = (rng.random(N) < 0.2).astype(np.float64)
    steps = Steps(
        observations=observations,
        actions=actions,
        rewards=np.zeros(N),
        left=np.zeros(N, dtype=np.bool_),
        discounts=np.ones(N),
        after=observations,
        is_last=np.ones(N, dtype=np.bool_),
    )
    pmfs, nothing = np.full((N, 2), 0.5), np.zeros(N)
    exposed = ConstrainedAdvantages(EXPOSURE.listed(), layout).hold(
        nothing, steps, pmfs, tail[:, None]
    )
    assert exposed[tail == 1.0].min() > 0.0 > exposed[tail == 0.0].max()
    liked = ConstrainedAdvantages(HATE.listed(), layout).hold(
        nothing, steps, pmfs, dislikes[:, None]
    )
    better = shown - observations[:, 1:].mean(axis=1)
    # What was disliked by chance does not count, only what is seen of the candidate.
    assert np.corrcoef(liked, better)[0, 1] == pytest.approx(-1.0)
    met = ConstrainedAdvantages(Constraints(least_exposure=0.1).listed(), layout)
    reward = rng.normal(size=N)
    assert np.array_equal(met.hold(reward, steps, pmfs, tail[:, None]), reward)


# --- trainings ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    with running_ray():
        yield


@pytest.fixture(scope="module")
def args(tmp_path_factory: pytest.TempPathFactory) -> RetentionArgs:
    """Return a small training in a small world whose users are easily put off."""
    path = tmp_path_factory.mktemp("world") / "preset.json"
    rates = msgspec.structs.replace(PRESET.rates, not_interested=0.05)
    path.write_bytes(msgspec.structs.replace(PRESET, rates=rates).to_json())
    world = FeedWorld(preset=str(path), objective=Objective("watch"), n_candidates=6)
    plain = RetentionArgs.of_feed(world, seed=1, n_steps=32_768)
    return msgspec.structs.replace(plain, n_envs=64, n_cards=32, minibatch=512, hidden=16)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.usefixtures("one_ray")
def test_a_training_with_limits_ends_nearer_to_them_than_one_without(args: RetentionArgs) -> None:
    told: list[Progress] = []
    limited = msgspec.structs.replace(args, limits=BOTH)
    rankers = [train(args).ranker, train(limited, advance=told.append).ranker]
    world, events = open_world(args.world), ["not_interested", "tail"]
    (hate, tail), (less_hate, more_tail) = (
        _shares(life_events(ranker, world, events, 200, seed=2**40)) for ranker in rankers
    )
    # Two shares of some 10,000 cards each, which are of one chance unless training moved it.
    assert hate - less_hate > 4.0 * np.sqrt(2.0 * 0.08 * 0.92 / 10_000)
    assert more_tail - tail > 4.0 * np.sqrt(2.0 * 0.25 / 10_000)
    assert [held.name for held in told[0].limits] == ["most_hate", "least_exposure"]
    assert min(held.multiplier for held in told[0].limits) > 0.0
    assert told[0].limits[1].share == pytest.approx(0.5, abs=4.0 * np.sqrt(0.25 / 2_048))


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.usefixtures("one_ray")
def test_a_training_that_goes_on_has_the_multipliers_of_one_that_never_stopped(
    args: RetentionArgs, tmp_path: Path
) -> None:
    short = msgspec.structs.replace(args, n_steps=6_144, limits=BOTH)

    def stop(progress: Progress) -> None:
        if progress.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(short, folder=tmp_path, advance=stop, checkpoint_every=1)
    resumed: list[Progress] = []
    ended = train(short, folder=tmp_path, advance=resumed.append)
    straight = train(short)
    assert [progress.iteration for progress in resumed] == [3]
    assert [held.name for held in ended.limits] == ["most_hate", "least_exposure"]
    for here, there in zip(ended.limits, straight.limits, strict=True):
        assert here.multiplier == pytest.approx(there.multiplier) != 0.0
        assert here.share == pytest.approx(there.share)
    assert train(short, folder=tmp_path).limits == ended.limits
