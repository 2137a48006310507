import msgspec
import numpy as np
import pytest
from small_worlds import PRESET, as_parts, make

from env.world.generated import MARKETS
from env.world.observer import BOUND, PERSONAL, USER_FACTS
from env.world.supply import ITEM_FACTS


def test_the_observation_says_what_its_names_say() -> None:
    env = make(60, copy=False)
    observation = as_parts(env.reset(seed=0)[0])
    for _ in range(30):
        env.step(np.zeros(60, dtype=np.int64))
    crowd, observer, stock = env.swiping.crowd, env.swiping.observer, env.swiping.stock
    names = observer.user_features()
    assert observation["user"].shape == (60, len(names))
    user = dict(zip(names, observation["user"].T, strict=True))
    np.testing.assert_allclose(user["position"], crowd.position * 0.02, rtol=1e-6)
    np.testing.assert_allclose(user["day"], crowd.day / 6.0, rtol=1e-6)
    np.testing.assert_allclose(user["hour_sin"], np.sin(crowd.hour * np.pi / 12.0), atol=1e-6)
    np.testing.assert_allclose(user["log_sessions"], np.log1p(crowd.sessions), rtol=1e-6)
    assert set(USER_FACTS) <= set(names)
    for kind in ("cohort", "device", "country", "language"):
        ones = sum(column for name, column in user.items() if name.startswith(f"{kind}_"))
        assert (ones == 1.0).all()
    for market, place in enumerate(MARKETS):
        assert np.array_equal(user[f"country_{place.country}"], crowd.users.market == market)
    rows = env.swiping.candidates.rows
    assert np.array_equal(observation["item"], stock.table[rows])
    assert observation["item"].shape[2] == 16 + len(ITEM_FACTS)
    personal = dict(zip(PERSONAL, np.moveaxis(observation["personal"], -1, 0), strict=True))
    match = np.einsum("nkd,dn->nk", stock.vectors.T[rows], observer.belief)
    np.testing.assert_allclose(personal["match"], match, atol=1e-5)
    same = stock.language[rows] == crowd.users.language[:, None]
    assert np.array_equal(personal["same_language"], same)
    seen = np.take_along_axis(observer.seen, stock.topic[rows], axis=1)
    assert np.array_equal(personal["seen_topic"], seen)
    log_odds = stock.log_odds[rows] + match + 0.3 * same - 0.3 * 0.35 * seen
    np.testing.assert_allclose(personal["valid_play"], 1.0 / (1.0 + np.exp(-log_odds)), atol=1e-5)


def test_the_flat_observation_is_the_dict_in_one_row() -> None:
    flat, parts = make(9, obs="flat"), make(9)
    one = flat.reset(seed=4)[0]
    other = as_parts(parts.reset(seed=4)[0])
    assert not isinstance(one, dict)
    blocks = [other[name].reshape(9, -1) for name in ("user", "item", "personal")]
    assert np.array_equal(one, np.concatenate(blocks, axis=1))


def test_the_ids_lead_to_the_items_of_the_dict() -> None:
    ids, parts = make(9, obs="ids"), make(9)
    one, other = as_parts(ids.reset(seed=4)[0]), as_parts(parts.reset(seed=4)[0])
    assert np.array_equal(ids.swiping.stock.table[one["candidates"]], other["item"])


def test_the_server_comes_to_know_what_users_like() -> None:
    env = make(600)
    env.reset(seed=0)
    crowd, observer = env.swiping.crowd, env.swiping.observer
    newcomers = crowd.users.tenure_days == 0.0

    def knowledge() -> float:
        match = (observer.belief * crowd.taste)[:, newcomers].sum(axis=0)
        return float(match.mean())

    assert knowledge() == 0.0
    actions = np.random.default_rng(0).integers(0, 20, (50, 600))
    for action in actions[:20]:
        env.step(action)
    newcomers &= crowd.cards > 20
    assert knowledge() > 0.0
    assert observer.belief[:, crowd.users.tenure_days > 0.0].std() > 0.1


@pytest.mark.parametrize("n_dims", [5, 33, 128])
def test_a_servers_mistakes_about_a_user_have_nothing_to_do_with_them(n_dims: int) -> None:
    n = 2_000
    uploads = msgspec.structs.replace(PRESET.uploads, n_dims=n_dims)
    env = make(n, preset=msgspec.structs.replace(PRESET, uploads=uploads), n_candidates=2)
    env.reset(seed=0)
    users, belief = env.swiping.crowd.users, env.swiping.observer.belief
    known = users.tenure_days > 100.0
    taste = users.taste[:, known]
    share = (belief[:, known] * taste).sum() / (taste**2).sum()
    mistakes = belief[:, known] - share * taste
    about = np.vstack([taste, users.lean[known]])
    across = np.asarray(np.corrcoef(mistakes, about))[:n_dims, n_dims:]
    assert np.abs(across).max() <= 6.0 / known.sum() ** 0.5
    assert 0.2 < share < 1.0


@pytest.mark.slow
def test_nothing_observed_is_beyond_its_bounds() -> None:
    env = make(300, supply="live", steps_per_day=3)
    observation = as_parts(env.reset(seed=0)[0])
    for _ in range(150):
        observation = as_parts(env.step(np.zeros(300, dtype=np.int64))[0])
    assert env.observation_space.contains(observation)
    assert max(np.abs(observation[name]).max() for name in ("user", "item")) < BOUND


@pytest.mark.parametrize("copy", [True, False])
def test_a_copied_observation_stays_and_the_other_is_written_over(copy: bool) -> None:
    env = make(10, copy=copy)
    first = as_parts(env.reset(seed=0)[0])
    kept = {name: array.copy() for name, array in first.items()}
    env.step(np.zeros(10, dtype=np.int64))
    for name in ("user", "item", "personal"):
        assert np.array_equal(first[name], kept[name]) == copy
