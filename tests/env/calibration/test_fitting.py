from pathlib import Path

import msgspec
import numpy as np
import pytest

from env.calibration.fitting import auc, fit, holdout_auc, predict_valid_play
from env.calibration.impressions import ImpressionTable
from env.reward import Reward
from env.vocabulary import Item, ItemId, Profile, UserId
from env.world.answers import N_UNIFORMS, ItemTerms, Rates, answer, utility
from env.world.responses import Posteriors, Priors, ResponseModel, generated
from env.world.user import simulated_users
from env.world.world import APPEAL, World, make_world, terms_of
from serve.importers import kuairand

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand_pure"
N_ITEMS, N_USERS, N_SHOWN = 300, 1_200, 24_000
TRUTH = msgspec.structs.replace(
    generated(),
    rates=Rates(zero=0.1, loop=0.3, watch_duration=0.3, language=0.0),
    priors=Priors(effect_sd=0.7, lean_sd=0.6, taste_sd=0.5, affinity_sd=0.5),
    intercept=-0.1,
)
ITEMS = [
    Item(
        item_id=ItemId(f"i{k}"),
        tags=(f"tag{k % 23}",),
        duration_s=float(np.exp(4.3 + 0.9 * np.sin(k * k))),
    )
    for k in range(N_ITEMS)
]
USERS = [(UserId(f"u{k}"), Profile(cohort="ab"[k % 2])) for k in range(N_USERS)]


def show(world: World, seed: int) -> ImpressionTable:
    """Return cards shown at random to rested users, as the world answers them."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, N_USERS, N_SHOWN), rng.integers(0, N_ITEMS, N_SHOWN)
    users = [world.user(*entry) for entry in USERS]
    taste = np.array([user.taste for user in users])[user]
    lean = np.array([user.lean for user in users])[user]
    columns = world.columns[:, item]
    affinity = np.einsum("ij,ij->i", world.vectors[item], taste)
    rates = world.model.rates
    drawn = answer(
        rates,
        utility(rates, affinity, columns[APPEAL] + lean, 0.0, 0.0, 0.0),
        ItemTerms(*terms_of(columns)),
        affinity / world.model.priors.affinity_sd,
        list(rng.random((N_UNIFORMS, N_SHOWN))),
        rng.standard_normal(N_SHOWN),
    )
    events = [np.asarray(column) > 0.0 for column in drawn[2:]]
    return ImpressionTable(
        user=user,
        item=item,
        at_ms=np.arange(N_SHOWN, dtype=np.int64),
        surface=np.zeros(N_SHOWN, dtype=np.int64),
        play_s=np.asarray(drawn.watch_s),
        duration_s=np.array([entry.duration_s or 0.0 for entry in ITEMS])[item],
        like=events[0],
        comment=events[1],
        share=events[2],
        follow=events[3],
        not_interested=events[4],
    )


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(TRUTH, ITEMS, seed=3)


@pytest.fixture(scope="module")
def shown(world: World) -> ImpressionTable:
    return show(world, seed=4)


@pytest.fixture(scope="module")
def fitted(shown: ImpressionTable) -> ResponseModel:
    return fit(shown, ITEMS, USERS, taste_sd=0.5)


def test_the_mixture_of_watch_times_comes_back(fitted: ResponseModel) -> None:
    """Half of the cards engage: each parameter rests on about 12,000 views.

    Who is engaged is latent, which costs information: 4 standard errors of a sample a quarter as
    large.
    """
    error = 4.0 / (N_SHOWN / 8) ** 0.5
    truth, found = TRUTH.rates, fitted.rates
    assert abs(found.skip_mu - truth.skip_mu) <= error * truth.skip_sd
    assert abs(found.skip_sd - truth.skip_sd) <= error * truth.skip_sd
    assert abs(found.watch_mu - truth.watch_mu) <= error * truth.watch_sd
    assert abs(found.watch_duration - truth.watch_duration) <= error * truth.watch_sd
    assert abs(found.watch_sd - truth.watch_sd) <= error * truth.watch_sd
    assert abs(found.zero - truth.zero) <= error * (truth.zero * (1.0 - truth.zero)) ** 0.5
    assert abs(found.like - truth.like) <= 4.0 / (N_SHOWN / 2 * 0.03) ** 0.5


def test_how_much_items_and_users_differ_comes_back(fitted: ResponseModel) -> None:
    """Penalised quasi-likelihood shrinks variances, by a tenth or so where clusters are small."""
    assert 0.85 <= fitted.priors.effect_sd / TRUTH.priors.effect_sd <= 1.1
    assert 0.75 <= fitted.priors.lean_sd / TRUTH.priors.lean_sd <= 1.1


def test_the_posterior_of_an_item_is_as_wide_as_its_error(
    world: World, fitted: ResponseModel
) -> None:
    posteriors = Posteriors(fitted)
    effect, sd = np.array([posteriors.item_effect(item.item_id) for item in ITEMS]).T
    shared = fitted.appeal(np.array([item.duration_s for item in ITEMS]))
    error = world.columns[APPEAL] - (effect + shared + world.vectors @ fitted.taste)
    z = (error - error.mean()) / sd
    assert error.std() < 0.5 * world.columns[APPEAL].std()
    information = 1.0 / sd**2 - 1.0 / fitted.priors.effect_sd**2
    unshrunk = np.mean(1.0 / (sd**2 * information))  # the taste that all share is free
    assert abs(np.mean(z**2) - unshrunk) <= 4.0 * (2.0 / N_ITEMS) ** 0.5


def test_the_posterior_of_a_user_is_wide_where_little_is_known(
    world: World, fitted: ResponseModel
) -> None:
    posteriors = Posteriors(fitted)
    _, stranger = posteriors.user_effect(UserId("stranger"), "a")
    assert np.allclose(np.sqrt(np.diag(stranger @ stranger.T))[0], fitted.priors.lean_sd)
    z = []
    for user_id, profile in USERS[:300]:
        mean, factor = posteriors.user_effect(user_id, profile.cohort)
        known = float(np.linalg.norm(factor[0]))
        assert known < fitted.priors.lean_sd
        z.append((world.user(user_id, profile).lean - mean[0]) / known)
    z_centred = np.array(z) - np.mean(z)
    assert 0.7 <= np.mean(z_centred**2) <= 1.5


def test_the_fit_predicts_nearly_as_well_as_the_truth(
    world: World, shown: ImpressionTable, fitted: ResponseModel
) -> None:
    later = show(world, seed=5)
    found = holdout_auc(fitted, later, ITEMS, USERS)
    chance = predict_valid_play(fitted, later, ITEMS, USERS)
    n = len(later)
    mean = later.valid_play().mean()
    assert abs(chance.mean() - mean) <= 4.0 * (2.0 * mean * (1.0 - mean) / n) ** 0.5
    assert found > holdout_auc(TRUTH, later, ITEMS, USERS) + 0.05
    assert 0.65 < found < 0.80


def test_a_model_comes_back_from_its_bytes(fitted: ResponseModel) -> None:
    data = fitted.to_bytes()
    again = ResponseModel.from_bytes(data)
    assert again.to_bytes() == data
    assert np.array_equal(again.items.effect, fitted.items.effect)
    with pytest.raises(msgspec.ValidationError):
        ResponseModel.from_bytes(msgspec.msgpack.encode({"rates": {}}))


def test_the_same_impressions_fit_the_same_model(shown: ImpressionTable) -> None:
    first, again = (fit(shown.before(3_000), ITEMS, USERS).to_bytes() for _ in range(2))
    assert first == again


def test_too_few_impressions_are_refused(shown: ImpressionTable) -> None:
    with pytest.raises(ValueError, match="at least 100 impressions of a full screen"):
        fit(shown.before(50), ITEMS, USERS)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    assert auc(np.array([True, False]), np.array([1.0, 1.0])) == 0.5
    assert auc(np.array([True, False, False, True]), np.array([3.0, 2.0, 1.0, 4.0])) == 1.0
    with pytest.raises(ValueError, match="both outcomes"):
        auc(np.array([True, True]), np.array([1.0, 2.0]))


@pytest.mark.skipif(not KUAIRAND.is_dir(), reason="KuaiRand is not at ../shared/data")
@pytest.mark.slow
def test_the_world_fitted_to_kuairand_is_no_giveaway_and_swipes_like_kuairand() -> None:
    data = kuairand.read(KUAIRAND)
    before = data.impressions.before(kuairand.LAST_DAY_MS)
    model = fit(before, data.items, data.users)
    last_day = data.impressions.since(kuairand.LAST_DAY_MS)
    assert 0.62 <= holdout_auc(model, last_day, data.items, data.users) <= 0.80
    shown = before.on_full_screen().take(np.arange(0, 60_000, 6))
    predicted = predict_valid_play(model, shown, data.items, data.users).mean()
    assert abs(predicted - shown.valid_play().mean()) < 0.05 * shown.valid_play().mean()
    world = make_world(model, data.items, seed=1)
    users = simulated_users(world, data.users[:100])
    rewards = np.array([v.expected_reward(np.arange(200), Reward()) for v in users])
    assert np.sort(rewards, axis=1)[:, -20:].mean() > 1.3 * rewards.mean()
