"""A crowd of fake accounts gains little for an upload, and an honest audience loses little."""

import msgspec
import numpy as np
import pytest
from auditions import DAY_MS, START_MS, by, debut, draw_rewards, shown

from env.fair_start.audience import Audiences
from env.fair_start.reach import UploadState
from env.fair_start.settings import OPEN_LEVEL, AudienceArgs, FairStart, Guards, Pools
from env.vocabulary import Interaction

TAU = 0.12
KEEP = Pools(caps=(3000, 3001, 3002), at_least=3000)
N_PEOPLE, N_ORIGINS, N_FAKES, N_HONEST = 4000, 2000, 1000, 16_000


def boosted(
    guards: Guards,
    n_fakes: int,
    pools: Pools = KEEP,
    tenure_days: int = 1,
    *,
    young: float = 0.05,
    fake_reward: float = 4.0,
) -> UploadState:
    """Return an ordinary upload that 600 honest users see, and fakes who give it all they can.

    Amid the traffic of 4,000 users from 2,000 origins, one in 20 of them young if not said else;
    the fakes come from 20 origins.
    """
    rng, n = np.random.default_rng(17), N_HONEST + n_fakes
    fake = np.zeros(n, dtype=np.bool_)
    fake[rng.choice(np.arange(4000, n), n_fakes, replace=False)] = True
    user, rewards = rng.integers(0, N_PEOPLE, n), draw_rewards(rng, n)
    origin, is_young = rng.integers(0, N_ORIGINS, N_PEOPLE), rng.random(N_PEOPLE) < young
    upload = fake | ((np.arange(n) >= 4000) & (rng.random(n) < 0.05))
    audiences = Audiences(AudienceArgs(pools=pools, guards=guards))
    for k in range(n):
        if k == 4000:
            audiences.put(debut("u", START_MS + k * 1000))
        name = "u" if upload[k] else f"old{k % 200}"
        where = f"farm{rng.integers(20)}" if fake[k] else f"o{origin[user[k]]}"
        tenure = tenure_days if fake[k] else (2 if is_young[user[k]] else 100)
        reward = fake_reward if fake[k] else float(rewards[k])
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


@pytest.mark.parametrize("fake_reward", [4.0, 0.0])
def test_where_everybody_is_young_fakes_are_found_by_their_origins(fake_reward: float) -> None:
    calm = boosted(Guards(), 0, young=1.0)
    attacked = boosted(Guards(), N_FAKES, young=1.0, fake_reward=fake_reward)
    assert calm.n_cut < 0.05 * calm.impressions
    assert abs(attacked.uplift - calm.uplift) < TAU
    assert attacked.n_counted > 0.8 * calm.n_counted


def test_fakes_cannot_push_the_upload_of_another_down(honest: UploadState) -> None:
    hated = boosted(Guards(), N_FAKES, fake_reward=0.0)
    assert abs(hated.uplift - honest.uplift) < TAU
    assert hated.n_counted > 0.8 * honest.n_counted
    assert boosted(Guards(enabled=False), N_FAKES, fake_reward=0.0).uplift < honest.uplift - 2 * TAU


def test_a_flood_of_young_accounts_in_a_market_of_its_own_proves_nothing() -> None:
    """All of it is from after the birth, so no share of that market is known."""
    audiences = Audiences()
    rewards = draw_rewards(np.random.default_rng(2), 6_000)
    for k, reward in enumerate(rewards.tolist()):
        audiences.fold(shown("old", START_MS + k, reward, origin=f"o{k % 900}"))
    audiences.put(debut("u", START_MS + 6_000, country="SG"))
    scene = {"country": "SG", "tenure_days": 0}
    for k in range(1_000):
        at_ms = START_MS + 6_000 + k
        audiences.fold(shown("u", at_ms, 4.0, origin=f"f{k % 20}", **scene))
    upload = audiences.uploads()[0]
    assert upload.level == 0
    assert upload.n_counted < 10


def skipped_by(n_fakes: int, guards: Guards) -> float:
    """Return the uplift of an upload after so many young accounts skipped everything else."""
    rng, audiences = np.random.default_rng(23), Audiences(AudienceArgs(pools=KEEP, guards=guards))
    rewards = iter(draw_rewards(rng, 20_000).tolist())
    for k in range(8_000):
        if k == 4_000:
            audiences.put(debut("u", START_MS + k * 1000))
        at_ms, young = START_MS + k * 1000, 0 if k % 20 == 0 else 100
        name = "u" if k >= 4_000 and k % 8 == 1 else f"old{k % 200}"
        scene = {"origin": f"o{k % 997}", "tenure_days": young}
        audiences.fold(shown(name, at_ms, next(rewards), **scene))
        for j in range(n_fakes // 4_000 if k >= 4_000 else 0):
            skipped = shown(f"old{j}", at_ms, 0.0, origin=f"f{k % 20}", tenure_days=1)
            audiences.fold(skipped)
    return audiences.uploads()[0].uplift


def test_a_crowd_that_skips_all_the_others_makes_an_upload_no_better() -> None:
    calm = skipped_by(0, Guards())
    assert abs(skipped_by(8_000, Guards()) - calm) < 0.25 * TAU
    assert skipped_by(8_000, Guards(enabled=False)) - calm > TAU


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


def test_a_state_that_was_folded_by_earlier_rules_is_refused() -> None:
    audiences = Audiences()
    audiences.put(debut("u"))
    kind, *fields = msgspec.msgpack.decode(audiences.to_bytes())
    assert Audiences.from_bytes(msgspec.msgpack.encode((kind, *fields))).uploads()
    with pytest.raises(msgspec.DecodeError, match="audiences/3"):
        Audiences.from_bytes(msgspec.msgpack.encode(("audiences/3", *fields)))


def surge(n_new: int, guards: Guards) -> tuple[Audiences, list[Interaction]]:
    """Return audiences that know a market, and what comes next: its users and so many new ones.

    One in ten is young; nobody sees an upload, but for the one by which counts are frozen.
    """
    rng, audiences = np.random.default_rng(31), Audiences(AudienceArgs(guards=guards))
    rewards = draw_rewards(rng, 6_000 + n_new)
    scenes = [
        {"origin": f"o{k % 997}", "tenure_days": 0 if k % 10 == 0 else 90} for k in range(997)
    ]
    swipes = [
        shown(f"old{k % 200}", START_MS + k, reward, **scenes[k % 997])
        for k, reward in enumerate(rewards.tolist())
    ]
    for swipe in swipes[:4_000]:
        audiences.fold(swipe)
    audiences.put(debut("u", START_MS + 4_000))
    new = set(rng.choice(np.arange(4_000, 6_000 + n_new), n_new, replace=False).tolist())
    return audiences, [
        by(f"new{k}", swipe_of_the_young(swipe)) if k in new else swipe
        for k, swipe in enumerate(swipes)
    ][4_000:]


def swipe_of_the_young(swipe: Interaction) -> Interaction:
    scene = msgspec.structs.replace(swipe.scene, tenure_days=0)
    return msgspec.structs.replace(swipe, scene=scene)


def n_told(told: list[tuple[Interaction, bool]], *, young: bool) -> int:
    return sum(tells for swipe, tells in told if (swipe.scene.tenure_days == 0) == young)


@pytest.mark.parametrize("n_new", [0, 6_000])
def test_what_is_ordinary_is_learned_from_a_surge_as_much_as_from_any_day(n_new: int) -> None:
    audiences, swipes = surge(n_new, Guards())
    told = [(swipe, audiences.fold(swipe)) for swipe in swipes]
    n_old = n_told(told, young=False)
    assert n_old == sum(swipe.scene.tenure_days > 0 for swipe in swipes)
    usual = n_old / 9.0
    assert 0.9 * usual < n_told(told, young=True) < 3.0 * usual


def test_without_guards_all_of_a_surge_is_learned_from() -> None:
    audiences, swipes = surge(6_000, Guards(enabled=False))
    assert all(audiences.fold(swipe) for swipe in swipes)


def test_a_surge_is_heard_alike_wherever_the_fold_was_interrupted() -> None:
    audiences, swipes = surge(3_000, Guards())
    resumed = Audiences.from_bytes(audiences.to_bytes(), AudienceArgs())
    for k, swipe in enumerate(swipes):
        assert resumed.fold(swipe) == audiences.fold(swipe)
        if k % 500 == 250:
            resumed = Audiences.from_bytes(resumed.to_bytes(), AudienceArgs())
    assert resumed.to_bytes() == audiences.to_bytes()


def test_a_surge_is_told_by_what_was_heard_of_it_and_what_was_not() -> None:
    audiences, swipes = surge(3_000, Guards())
    told = [(swipe, audiences.fold(swipe)) for swipe in swipes]
    n_heard, n_came = n_told(told, young=True), sum(s.scene.tenure_days == 0 for s in swipes)
    assert audiences.heard == {"GB": (sum(tells for _, tells in told), n_heard, n_came - n_heard)}
    assert n_came - n_heard > 1_000


def test_what_is_open_and_still_owed_an_audience_is_ordinary() -> None:
    audiences = Audiences(AudienceArgs(FairStart(impressions=100_000)))
    rewards = draw_rewards(np.random.default_rng(3), 12_000).tolist()
    for k, reward in enumerate(rewards[:1_000]):
        audiences.fold(shown("old", START_MS + k, reward, tenure_days=0 if k % 10 == 0 else 90))
    audiences.put(debut("u", START_MS + 1_000))
    for k, reward in enumerate(rewards[1_000:], start=1_000):
        name, more = ("u", 1.5) if k % 2 else ("old", 0.0)
        audiences.fold(shown(name, START_MS + k, reward + more))
    assert [u.level for u in audiences.uploads()] == [OPEN_LEVEL]
    n_heard = [
        sum(audiences.fold(shown(name, START_MS + 12_000 + k, tenure_days=0)) for k in range(9_000))
        for name in ("u", "old")
    ]
    assert 500 < n_heard[0] < 4_000
    assert n_heard[1] < 500  # of both together they have had their part


def test_where_uploads_no_longer_come_what_is_usual_is_looked_at_daily() -> None:
    audiences, _ = surge(0, Guards())
    n_heard = []
    for day in range(6):
        at_ms = [START_MS + day * DAY_MS + k * DAY_MS // 1_000 for k in range(1_000)]
        n_heard.append(sum(audiences.fold(shown("old", ms, tenure_days=0)) for ms in at_ms))
    assert n_heard[0] < 300
    assert n_heard[-1] > 900


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
