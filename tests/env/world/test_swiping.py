from typing import Any

import msgspec
import numpy as np
from small_worlds import PRESET

from env.reward import Reward
from env.vocabulary import Bools
from env.world.creators import LiveSupply
from env.world.population import DrawnUsers
from env.world.presets import Preset
from env.world.settings import Settings
from env.world.simulation import Simulation, StepResult
from env.world.supply import FixedSupply

N = 30
MOVED = (
    *("keys", "cards", "taste", "drift", "satiation", "load", "satisfaction"),
    *("watched_s", "position", "sessions", "day", "hour"),
)


def test_showing_the_candidates_rows_is_playing_them() -> None:
    played, shown = make(), make()
    rng = np.random.default_rng(1)
    for _ in range(60):
        actions = rng.permuted(np.tile(np.arange(6), (N, 1)), axis=1)[:, :3]
        rows = np.take_along_axis(shown.candidates.rows, actions, axis=1)
        assert_same_turn(played.play(actions), shown.show(rows))
        assert_same(everything(played), everything(shown))


def test_any_item_of_the_stock_can_be_shown() -> None:
    feed = make()
    rows = np.arange(N * 2).reshape(N, 2)
    turn = feed.show(rows)
    np.testing.assert_array_equal(turn.rows, rows)
    assert (turn.events[0, 0] > 0.0).any()


def test_who_is_absent_stays_as_they_are() -> None:
    feed = make()
    present = np.arange(N) % 3 == 0
    before = everything(feed)
    turn = feed.show(np.zeros((N, 2), dtype=np.int64), present)
    after = everything(feed)
    for name, column in before.items():
        np.testing.assert_array_equal(column[..., ~present], after[name][..., ~present], name)
    assert (after["cards"][present] > before["cards"][present]).all()
    assert turn.n_cards[present].min() >= 1
    assert not turn.n_cards[~present].any()
    assert not turn.events[:, :, ~present].any()
    assert not turn.session_end[~present].any()


def test_who_is_present_lives_the_same_whoever_else_is() -> None:
    for_ever = msgspec.structs.replace(
        PRESET, horizon_days=10_000, moods=msgspec.structs.replace(PRESET.moods, churn=0.0)
    )
    together, apart = make(for_ever), make(for_ever)
    rows = np.arange(N)[:, None] % 7
    odd = np.arange(N) % 2 == 1
    for _ in range(40):
        whole = together.show(rows)
        parts = apart.show(rows, odd), apart.show(rows, ~odd)
        assert_same(everything(together), everything(apart))
        np.testing.assert_array_equal(whole.events, parts[0].events + parts[1].events)
    assert together.crowd.sessions.sum() > N


def test_whose_episode_ended_is_replaced_even_if_nobody_is_shown_anything() -> None:
    feed = make(msgspec.structs.replace(PRESET, horizon_days=1))
    rows, nobody = np.zeros((N, 1), dtype=np.int64), np.zeros(N, dtype=np.bool_)
    while not feed.over.any():
        feed.show(rows)
    over, keys = feed.over.copy(), feed.crowd.keys.copy()
    turn = feed.show(rows, nobody)
    assert not turn.n_cards.any()
    assert not feed.over.any()
    assert (feed.crowd.keys[over] != keys[over]).all()
    np.testing.assert_array_equal(feed.crowd.keys[~over], keys[~over])


def make(preset: Preset = PRESET) -> Simulation:
    """Return a feed with users in front of it."""
    supply = FixedSupply(LiveSupply(preset, 0).stock)
    settings = Settings(n_candidates=6)
    feed = Simulation(preset, DrawnUsers(preset), supply, settings, Reward(), N)
    feed.restart(np.arange(N))
    return feed


def everything(feed: Simulation) -> dict[str, Any]:
    """Return what is known of the users, the last axis over them."""
    crowd = {name: np.array(getattr(feed.crowd, name)) for name in MOVED}
    crowd["satiation"] = crowd["satiation"].T
    observer = {"belief": feed.observer.belief.copy(), "facts": feed.observer.facts.copy()}
    return {**crowd, **observer, "seen": feed.observer.seen.T.copy(), "over": feed.over.copy()}


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Fail unless users are the same to the last bit."""
    for name, column in left.items():
        np.testing.assert_array_equal(column, right[name], name)


def assert_same_turn(left: StepResult, right: StepResult) -> None:
    """Fail unless the same came of two turns."""
    for name in ("events", "n_cards", "session_end", "gap_days", "discount", "rows"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), name)
    ends: list[Bools] = [left.terminated, left.truncated]
    for mine, theirs in zip(ends, [right.terminated, right.truncated], strict=True):
        np.testing.assert_array_equal(mine, theirs)
