"""A crowd of fake accounts gains little for an upload, and an honest audience loses little."""

import numpy as np
import pytest
from auditions import START_MS, by, debut, draw_rewards, shown

from env.audience_args import AudienceArgs, Guards, Pools
from env.audiences import Audiences
from env.reach import UploadState

TAU = 0.12
KEEP = Pools(caps=(3000, 3001, 3002), at_least=3000)
N_PEOPLE, N_ORIGINS, N_FAKES, N_HONEST = 4000, 2000, 1000, 16_000


def boosted(guards: Guards, n_fakes: int, pools: Pools = KEEP, tenure_days: int = 1) -> UploadState:
    """Return an ordinary upload that 600 honest people see, and fakes who give it all they can.

    Amid the traffic of 4,000 people from 2,000 origins, one in 20 of them young; the fakes come
    from 20 origins.
    """
    rng, n = np.random.default_rng(17), N_HONEST + n_fakes
    fake = np.zeros(n, dtype=np.bool_)
    fake[rng.choice(np.arange(4000, n), n_fakes, replace=False)] = True
    person, rewards = rng.integers(0, N_PEOPLE, n), draw_rewards(rng, n)
    origin, young = rng.integers(0, N_ORIGINS, N_PEOPLE), rng.random(N_PEOPLE) < 0.05
    upload = fake | ((np.arange(n) >= 4000) & (rng.random(n) < 0.05))
    audiences = Audiences(AudienceArgs(pools=pools, guards=guards))
    for k in range(n):
        if k == 4000:
            audiences.put(debut("u", START_MS + k * 1000))
        name = "u" if upload[k] else f"old{k % 200}"
        where = f"farm{rng.integers(20)}" if fake[k] else f"o{origin[person[k]]}"
        tenure = tenure_days if fake[k] else (2 if young[person[k]] else 100)
        reward = 4.0 if fake[k] else float(rewards[k])
        at_ms = START_MS + k * 1000
        audiences.fold(shown(name, at_ms, reward, origin=where, tenure_days=tenure))
    return audiences.uploads()[0]


@pytest.fixture(scope="module")
def honest() -> UploadState:
    return boosted(Guards(), 0)


@pytest.fixture(scope="module")
def guarded() -> UploadState:
    return boosted(Guards(), N_FAKES)


def test_a_thousand_young_fakes_move_an_upload_by_less_than_uploads_differ(
    honest: UploadState, guarded: UploadState
) -> None:
    unguarded = boosted(Guards(enabled=False), N_FAKES)
    assert guarded.uplift - honest.uplift < TAU
    assert unguarded.uplift - honest.uplift > 10.0 * TAU
    assert guarded.n_cut > 0.95 * N_FAKES
    assert unguarded.n_cut == 0


def test_a_thousand_fakes_of_old_accounts_are_found_by_their_origins(honest: UploadState) -> None:
    old = boosted(Guards(), N_FAKES, tenure_days=300)
    assert old.uplift - honest.uplift < 1.5 * TAU
    assert old.n_cut > 0.9 * N_FAKES


def test_fakes_do_not_bring_an_upload_into_the_next_pool_but_for_the_guards() -> None:
    assert boosted(Guards(), N_FAKES, Pools()).level == 0
    assert boosted(Guards(enabled=False), N_FAKES, Pools()).level == 3


def test_an_honest_audience_is_hardly_cut_and_fakes_cost_it_little(
    honest: UploadState, guarded: UploadState
) -> None:
    assert honest.n_cut < 0.05 * honest.impressions
    assert guarded.n_counted > 0.8 * honest.n_counted


def test_fakes_cannot_use_up_the_cap_of_another() -> None:
    pools = Pools(caps=(300, 3_000, 30_000), promote=(0.999999,) * 3, demote=0.000001)
    stopped = boosted(Guards(), N_FAKES, pools)
    assert stopped.impressions - stopped.n_cut == 300


@pytest.mark.parametrize(
    "scene",
    [
        {"tenure_days": 0, "origin": "carrier"},
        {"tenure_days": 0, "origin": ""},
        {"tenure_days": 100, "origin": "carrier"},
    ],
)
def test_where_everybody_is_alike_uploads_get_their_verdict(scene: dict[str, object]) -> None:
    rng = np.random.default_rng(3)
    audiences = Audiences()
    audiences.put(debut("u"))
    for k, reward in enumerate(draw_rewards(rng, 2000).tolist()):
        name, more = ("u", 1.0) if k % 8 == 0 else ("old", 0.0)
        assert audiences.fold(shown(name, START_MS + k, reward + more, **scene))
    upload = audiences.uploads()[0]
    assert (upload.n_cut, upload.level >= 1) == (0, True)


def watched_again(n_times: int, guards: Guards, n_others: int = 0) -> UploadState:
    """Return an upload that one old account watches so often amid the cards of 20,000 others.

    The account has the whole country's carrier for its origin, so no share is exceeded.
    """
    rng, n = np.random.default_rng(9), 20_000
    rewards = draw_rewards(rng, n)
    again = set(rng.choice(np.arange(2_000, n), n_times, replace=False).tolist())
    others = set(rng.choice(np.arange(2_000, n), n_others, replace=False).tolist()) - again
    audiences = Audiences(AudienceArgs(guards=guards))
    audiences.put(debut("u"))
    for k, reward in enumerate(rewards.tolist()):
        at_ms = START_MS + k * 1000
        if k in again:
            audiences.fold(by("fan", shown("u", at_ms, 4.0, origin="carrier")))
        else:
            name = "u" if k in others else f"old{k % 200}"
            audiences.fold(by(f"p{k}", shown(name, at_ms, reward, origin="carrier")))
    return audiences.uploads()[0]


@pytest.mark.parametrize("n_times", [400, 115])
def test_one_account_counts_once_however_often_it_watches(n_times: int) -> None:
    upload = watched_again(n_times, Guards())
    assert (upload.n_counted, upload.n_cut, upload.level) == (1.0, n_times - 1, 0)
    assert upload.stopped == ""


def test_without_guards_one_account_carries_an_upload_to_the_next_pool() -> None:
    upload = watched_again(400, Guards(enabled=False))
    assert (upload.n_cut, upload.level > 0) == (0, True)


def test_one_account_among_others_takes_nothing_from_them() -> None:
    upload = watched_again(400, Guards(), n_others=95)
    assert upload.n_counted > 0.95 * 95
    assert upload.n_cut >= 399
