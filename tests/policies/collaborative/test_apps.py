"""Coordinates of devices: lists of a genre are alike, others at right angles, generations agree."""

import numpy as np
import pytest

from env.columns.schema import N_APPS
from env.features.apps import NO_APPS, AppSpace
from env.users.devices import device_keys
from env.vocabulary import Floats, Profile
from policies.collaborative.apps import fit_apps
from policies.collaborative.users import LEAST_USERS, MAX_NAMES, Devices

N_APPS_OF_GENRE, N_OWN, N_COMMON = 150, 34, 6
COMMON = tuple(f"common {k}" for k in range(12))


def drawn(rng: np.random.Generator, genre: int) -> Profile:
    """Forty apps: most of one genre, a few that users of all genres have."""
    chances = np.arange(1, N_APPS_OF_GENRE + 1) ** -0.5
    own = rng.choice(N_APPS_OF_GENRE, N_OWN, replace=False, p=chances / chances.sum())
    common = rng.choice(COMMON, N_COMMON, replace=False)
    return Profile(
        apps=(*(f"genre {genre} {k}" for k in own), *map(str, common)),
        os=f"Android {rng.integers(11, 15)}",
        device_model=f"model {rng.integers(20)}",
    )


def crowd(seed: int, n: int, n_genres: int) -> list[Profile]:
    rng = np.random.default_rng(seed)
    return [drawn(rng, k % n_genres) for k in range(n)]


def fitted(profiles: list[Profile], before: AppSpace = NO_APPS) -> AppSpace:
    return fit_apps(Devices.of(map(device_keys, profiles)), before)


def read(space: AppSpace, profiles: list[Profile]) -> Floats:
    return np.array([space.read(profile) for profile in profiles])


@pytest.mark.parametrize("n_genres", [2, 5, N_APPS])
def test_lists_of_a_genre_are_alike_and_others_are_not(n_genres: int) -> None:
    space = fitted(crowd(1, 600, n_genres))
    places = read(space, crowd(2, 100, n_genres))
    assert np.linalg.norm(places, axis=1) == pytest.approx(np.ones(100))
    cosines = places @ places.T
    genres = np.arange(100) % n_genres
    same = genres[:, None] == genres
    assert cosines[same].min() > 0.9
    assert np.abs(cosines[~same]).max() < 0.2


def test_an_app_that_nobody_else_has_or_that_all_have_says_nothing() -> None:
    profiles = [Profile(apps=(*profile.apps, "everywhere")) for profile in crowd(3, 200, 2)]
    space = fitted(profiles)
    (known,) = profiles[:1]
    more = Profile(apps=(*known.apps, "unheard of"))
    assert space.read(more) == space.read(known)
    assert space.read(Profile(apps=("everywhere",))) == [0.0] * N_APPS
    assert space.read(Profile(apps=("unheard of",))) == [0.0] * N_APPS
    assert space.read(Profile()) == [0.0] * N_APPS


def test_names_that_few_users_have_are_not_in_a_generation() -> None:
    profiles = crowd(4, 100, 2)
    few = [Profile(apps=("secret", "genre 0 1"))] * (LEAST_USERS - 1)
    (secret,) = device_keys(Profile(apps=("secret",)))
    assert secret not in fitted([*profiles, *few]).keys
    assert secret in fitted([*profiles, *few, *few]).keys


def test_the_system_s_version_and_the_model_are_among_what_is_learned() -> None:
    rng = np.random.default_rng(5)
    old, new = (("Android 9", "A1"), ("iOS 18.2", "iPhone 16"))
    profiles = [Profile(os=os, device_model=model) for os, model in (old, new) for _ in range(50)]
    profiles = [profiles[k] for k in rng.permutation(100)]
    space = fitted(profiles)
    places = read(
        space,
        [
            Profile(os="android 9.1"),
            Profile(device_model="a1"),
            Profile(os="iOS 18"),
            Profile(os="iOS"),
        ],
    )
    assert places[0] @ places[1] == pytest.approx(1.0)
    assert places[0] @ places[2] == pytest.approx(0.0, abs=1e-6)
    assert not places[3].any(), "nobody has this version"


def test_the_next_generation_leaves_users_where_they_were() -> None:
    n_genres = 4
    before = fitted(crowd(6, 500, n_genres))
    profiles = crowd(7, 700, n_genres)
    after, alone = fitted(profiles, before), fitted(profiles)
    users = crowd(8, 100, n_genres)
    kept = np.einsum("ij,ij->i", read(before, users), read(after, users))
    moved = np.einsum("ij,ij->i", read(before, users), read(alone, users))
    assert kept.min() > 0.95
    assert moved.min() < 0.5, "directions of their own are others"


def test_equal_lists_give_equal_coordinates_whatever_the_order_of_the_apps() -> None:
    profiles = crowd(9, 200, 3)
    turned = [Profile(apps=p.apps[::-1], os=p.os, device_model=p.device_model) for p in profiles]
    assert fitted(profiles).to_bytes() == fitted(turned).to_bytes()
    again = AppSpace.from_bytes(fitted(profiles).to_bytes())
    assert read(again, profiles).tolist() == read(fitted(profiles), profiles).tolist()


def test_of_long_lists_some_names_are_learned_from_and_all_are_read() -> None:
    long = Profile(apps=tuple(f"app {k}" for k in range(500)))
    devices = Devices.of([device_keys(long)] * 9)
    assert len(devices.keys) == MAX_NAMES
    rng = np.random.default_rng(10)
    space = fitted([Profile(apps=tuple(rng.choice(long.apps, 40))) for _ in range(300)])
    assert len(space) > MAX_NAMES
    assert np.linalg.norm(space.read(long)) <= 1.0 + 1e-6


@pytest.mark.parametrize("n", [0, LEAST_USERS - 1, LEAST_USERS])
def test_a_few_users_are_at_nothing(n: int) -> None:
    assert len(fitted([Profile(apps=("chat",))] * n)) == 0


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x91\xa6apps/0"])
def test_bytes_that_are_no_coordinates_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no coordinates of apps"):
        AppSpace.from_bytes(data)


def test_coordinates_that_do_not_fit_are_refused() -> None:
    keys = np.array([1, 2], dtype=np.uint64)
    place = np.zeros((2, N_APPS), dtype=np.float32)
    with pytest.raises(ValueError, match="weights"):
        AppSpace.of(keys, np.ones(1), place)
    with pytest.raises(ValueError, match="ascending"):
        AppSpace.of(keys[::-1], np.ones(2), place)
    with pytest.raises(ValueError, match="finite"):
        AppSpace.of(keys, np.array([1.0, np.nan]), place)
