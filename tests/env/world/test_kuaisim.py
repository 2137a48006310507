import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from env.calibration.recipes import kuaisim
from env.gym.swipe import SwipeEnv
from env.gym.vector import SwipeVectorEnv
from env.vocabulary import Floats, Ints
from env.world.kuaisim import (
    SIGNALS,
    KuaiSimLaws,
    cool,
    cross_session,
    gfn4retention,
    log_scale_weights,
    next_day_chance,
    penalised,
    personal_bias,
    remember,
    return_day_chances,
    return_days,
    reward_of,
    similarity,
    slate_reward,
    whole_session,
)
from env.world.kuaisim_crowd import KuaiSimCrowd
from env.world.objective import Objective
from env.world.presets import Preset

N = 400
# Average reward and depth of KuaiSim's README, whole-session recommendation.
PUBLISHED = {"TD3": (0.6476, 14.63), "A2C": (0.5950, 14.02), "DDPG": (0.6841, 14.89)} | {
    "HAC": (0.6895, 14.98)
}


def pages(rng: np.random.Generator, n: int) -> Ints:
    return np.argsort(rng.random((n, 20)), axis=1)[:, :6]


def drawn(n: int = 200_000) -> np.random.Generator:
    return np.random.default_rng(n)


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_published_average_reward_gives_the_published_depth(method: str) -> None:
    laws, (reward, depth) = whole_session(), PUBLISHED[method]
    rng, n = drawn(), 20_000
    temper, cards = np.full(n, laws.temper), np.zeros(n)
    while (temper >= 1.0).any():
        cards += temper >= 1.0
        clicks = rng.binomial(laws.slate, reward, n) / laws.slate
        temper = np.where(temper >= 1.0, cool(laws, temper, clicks), temper)
    # The README does not say how many sessions it averages; its batches have 32. This is two
    # standard errors of four batches, and T0 = 10 or another loss would be off by many times that.
    assert abs(cards.mean() - depth) < 2.0 * cards.std() / np.sqrt(4 * 32)


def test_nobody_stays_longer_than_five_requests_across_sessions() -> None:
    laws = cross_session()
    temper = np.array([laws.temper])
    for request in range(5):
        assert temper[0] >= 1.0, request
        temper = cool(laws, temper, np.array([2.0]))
    assert temper[0] < 1.0


def test_a_slate_takes_at_most_its_loss_and_gives_nothing_back() -> None:
    laws = whole_session()
    after = cool(laws, np.full(4, 10.0), np.array([-1.0, 0.0, 1.5, 9.0]))
    assert after.tolist() == [8.0, 8.0, 9.5, 10.0]


def test_similarity_is_the_mean_of_all_products_of_unit_vectors() -> None:
    vectors = drawn().standard_normal((5, 3, 2))
    unit = vectors / np.linalg.norm(vectors, axis=0)
    expected = np.einsum("djn,dkn->jn", unit, unit) / (3 * 64)
    np.testing.assert_allclose(similarity(vectors, 64), expected, rtol=1e-12)


def test_alike_cards_are_penalised_by_rho_over_the_encoding_and_never_below_zero() -> None:
    laws = KuaiSimLaws(encoding_dims=1)
    alike = similarity(np.ones((4, 6, 1)), laws.encoding_dims)
    scores = np.broadcast_to(np.array([0.7, 0.1])[:, None, None], (2, 6, 1))
    chances = penalised(laws, scores, alike)
    np.testing.assert_allclose(chances[0], 0.5)
    assert not chances[1].any()


def test_a_slate_is_worth_the_mean_of_its_weighted_events_and_so_says_the_reward() -> None:
    laws = cross_session()
    events = (drawn().random((len(SIGNALS), 6, 3)) < 0.4).astype(np.float64)
    weights = np.array([laws.weights[name] for name in SIGNALS])
    expected = np.einsum("b,bjn->n", weights, events) / 6
    np.testing.assert_allclose(slate_reward(laws, events), expected)
    reward = reward_of(laws)
    said = sum(getattr(reward, name) * events[k].sum(axis=0) for k, name in enumerate(SIGNALS))
    np.testing.assert_allclose(said, expected)


def test_days_are_drawn_by_their_chances() -> None:
    laws, n = cross_session(), 200_000
    for chance in (0.001, 0.3, 0.999):
        days = return_days(laws, np.full(n, chance), drawn().random(n))
        shares = np.bincount(days.astype(int), minlength=11)[1:] / n
        expected = return_day_chances(laws, np.array([chance]))[:, 0]
        assert abs(expected.sum() - 1.0) < 1e-12
        assert (np.abs(shares - expected) < 4.5 * np.sqrt(expected / n) + 1e-9).all(), chance


def test_the_chance_to_return_is_clipped_and_moved_by_the_last_slate() -> None:
    laws = cross_session()
    chance = next_day_chance(laws, np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 2.0, -2.0]))
    np.testing.assert_allclose(chance, [0.4, 0.5, 0.999, 0.001])
    assert remember(laws, np.array([5.0]), np.array([1.0])).tolist() == [1.0]


def test_gfn4retention_remembers_slates_and_bounds_the_personal_part() -> None:
    laws = gfn4retention()
    np.testing.assert_allclose(remember(laws, np.array([1.0]), np.array([0.0])), 0.7)
    bias = personal_bias(laws, np.array([-50.0, 0.0, 50.0]))
    np.testing.assert_allclose(bias, [0.0, 0.05, 0.1], atol=1e-9)
    assert abs(next_day_chance(laws, np.array([0.01]), np.array([0.0]))[0] - 0.4) < 1e-12


def test_log_scale_weights_are_the_published_softmax() -> None:
    weights = cross_session().weights
    raw = np.exp(1.0 - np.log(np.array(list(weights.values())) + 0.001))
    np.testing.assert_allclose(list(log_scale_weights(weights).values()), raw / raw.sum())
    assert max(log_scale_weights(weights).items(), key=lambda item: item[1])[0] == "not_interested"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"like": 1.0}}, "expected a weight for each"),
        ({"slate": 0}, "KuaiSimLaws.slate"),
        ({"correlation": 1.5}, "KuaiSimLaws.correlation"),
        ({"temper": 0.5}, "at least 1, or nobody stays"),
        ({"temper_loss": 0.0}, "KuaiSimLaws.temper_loss"),
        ({"personal_sd": -1.0}, "KuaiSimLaws.personal_sd"),
    ],
)
def test_what_is_no_set_of_laws_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(cross_session(), **change)


def test_everybody_has_five_slates_a_session_and_six_sessions() -> None:
    env, rng = SwipeVectorEnv(N, preset=kuaisim(), actions="page", reward="retention"), drawn()
    env.reset(seed=0)
    gaps: list[Floats] = []
    for request in range(1, 31):
        _, reward, terminated, truncated, info = env.step(pages(rng, N))
        is_end = request % 5 == 0
        assert (info["session_end"] == is_end).all()
        assert (info["n_cards"] == 6).all()
        np.testing.assert_array_equal(reward, -info["gap_days"] / 10.0)
        assert not terminated.any()
        assert (truncated == (request == 30)).all()
        if is_end:
            gaps.append(info["gap_days"])
    days = np.concatenate(gaps)
    assert days.min() >= 1
    assert days.max() <= 10
    # P is .4, a part by the last slate and N(0, .579), clipped: 2.8 days, from the law alone.
    bias = personal_bias(cross_session(), drawn().standard_normal(N))
    law = return_day_chances(
        cross_session(), next_day_chance(cross_session(), np.full(N, 0.55), bias)
    )
    expected = (law * np.arange(1, 11)[:, None]).sum(axis=0)
    assert abs(days.mean() - expected.mean()) < 4.0 * np.sqrt(2.0) * days.std() / np.sqrt(N)


def test_rates_of_signals_in_the_world_are_their_scores() -> None:
    env, rng = SwipeVectorEnv(2_000, preset=kuaisim(), actions="page"), drawn()
    env.reset(seed=0)
    swipe = SwipeVectorEnv(2_000, preset=replace(kuaisim(), laws="swipe"), actions="page")
    swipe.reset(seed=0)
    page = pages(rng, 2_000)
    _, _, _, _, theirs = env.step(page)
    _, _, _, _, ours = swipe.step(page)
    # The first card of each page: the same users, items and chances; long and valid plays are
    # drawn apart from each other in KuaiSim, so only their rates agree.
    for name in ("valid_play", "long_view"):
        a, b = theirs[f"page_{name}"][:, 0], ours[f"page_{name}"][:, 0]
        assert abs(a.mean() - b.mean()) < 4.0 * np.sqrt((a.var() + b.var()) / 2_000), name
    nested = theirs["page_long_view"] <= theirs["page_valid_play"]
    assert not nested.all()


def test_the_reward_is_the_slates_and_ends_follow_the_temper() -> None:
    preset = replace(kuaisim(), kuaisim=whole_session())
    env, rng = SwipeVectorEnv(N, preset=preset, actions="page"), drawn()
    env.reset(seed=0)
    temper, lives = np.full(N, 20.0), np.ones(N, dtype=np.bool_)
    while lives.any():
        _, reward, _, truncated, info = env.step(pages(rng, N))
        clicks = info["page_valid_play"].mean(axis=1)
        np.testing.assert_allclose(reward[lives], clicks[lives])
        temper[lives] = cool(whole_session(), temper, clicks)[lives]
        np.testing.assert_array_equal(truncated[lives], temper[lives] < 1.0)
        lives &= ~truncated


def test_gfn4retention_goes_by_scores_and_not_by_what_was_drawn() -> None:
    preset = replace(kuaisim(), kuaisim=gfn4retention())
    env, rng = SwipeVectorEnv(N, preset=preset, actions="page"), drawn()
    env.reset(seed=0)
    crowd, paid = env.swiping.crowd, np.zeros(N)
    assert isinstance(crowd, KuaiSimCrowd)
    for _ in range(4):
        _, reward, *_ = env.step(pages(rng, N))
        paid = 0.7 * paid + 0.3 * reward
    # Events are drawn with the scores as their chances, so both agree on average and for nobody.
    assert abs((paid - crowd.remembered).mean()) < 4.0 * paid.std() / np.sqrt(N)
    assert crowd.remembered.std() < 0.5 * paid.std()


def test_one_user_lives_as_in_a_vector() -> None:
    rng = drawn()
    many = SwipeVectorEnv(7, preset=kuaisim(), actions="page", reward="retention")
    one = SwipeEnv(preset=kuaisim(), actions="page", reward="retention")
    many.reset(seed=10)
    one.reset(seed=14)
    for _ in range(30):
        page = pages(rng, 7)
        seen, reward, _, _, info = many.step(page)
        alone, paid, _, _, told = one.step(page[4])
        assert isinstance(seen, dict)
        assert isinstance(alone, dict)
        assert all(np.array_equal(seen[name][4], alone[name]) for name in alone)
        assert paid == reward[4]
        assert told["gap_days"] == info["gap_days"][4]


def test_a_card_a_step_is_refused_under_laws_of_slates() -> None:
    with pytest.raises(ValueError, match=r"slates of 6 cards: expected actions=.page"):
        SwipeVectorEnv(2, preset=kuaisim())
    with pytest.raises(ValueError, match=r"page_size=6, got 4 a step"):
        SwipeVectorEnv(2, preset=kuaisim(), actions="page", page_size=4)


def test_laws_without_constants_are_refused() -> None:
    bare = replace(kuaisim(), kuaisim=None)
    with pytest.raises(ValueError, match="without its constants"):
        SwipeVectorEnv(2, preset=bare, actions="page")
    with pytest.raises(ValueError, match="without its constants"):
        SwipeVectorEnv(2, preset=bare, actions="page", reward=Objective("watch"))


def test_a_preset_keeps_its_laws_in_json() -> None:
    preset = replace(kuaisim(), kuaisim=gfn4retention())
    assert msgspec.json.decode(preset.to_json(), type=Preset) == preset
