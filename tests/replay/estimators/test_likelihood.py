"""Cressie-Read: the quadratic against the programme that it solves; caution; sums that add up."""

import numpy as np
import pytest

from env.vocabulary import Floats
from replay.estimators.columns import Columns
from replay.estimators.decisions import snips
from replay.estimators.intervals import t_quantile
from replay.estimators.likelihood import MISSES, LikelihoodSums, cressie_read, cressie_read_of

LOGGING, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
RANGE = (0.0, 1.0)


def drawn(rng: np.random.Generator, n_users: int = 100, scale: float = 1.0) -> Columns:
    user = np.repeat(np.arange(n_users), rng.integers(1, 5, size=n_users))
    action = rng.choice(4, size=len(user), p=LOGGING)
    chance = scale * np.array([0.2, 0.3, 0.4, 0.5])[action]
    reward = (rng.random(len(user)) < chance).astype(np.float64)
    return Columns(user, reward, LOGGING[action], TARGET[action])


def distance(columns: Columns, value: float) -> float:
    """The least sum of (N q - 1)^2 under both constraints, less that under the first."""
    n_users = int(columns.user.max()) + 1
    parts = (np.ones(len(columns)), columns.weights, columns.weights * columns.reward)
    m, a, b = (np.bincount(columns.user, weights=part) for part in parts)

    def least(constraints: Floats) -> float:
        # q = 1/N + shift: the shortest shift with sum 0 that makes every constraint's mean 0.
        rows = np.vstack([np.ones(n_users), constraints])
        wanted = np.concatenate([[0.0], -constraints.mean(axis=1)])
        shift = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        return float(n_users * n_users * (shift @ shift))

    return least(np.asarray([a - m, b - value * m])) - least(np.asarray([a - m]))


def test_the_ends_are_where_the_programme_costs_as_much_as_is_allowed() -> None:
    columns = drawn(np.random.default_rng(1))
    moments = LikelihoodSums.of(columns).moments()
    for t in (0.5, 2.0):
        for end in moments.ends(t):
            assert distance(columns, end) == pytest.approx(t * t, rel=1e-9)
    assert distance(columns, moments.value) == pytest.approx(0.0, abs=1e-9)


def test_its_standard_error_is_how_far_its_value_strays() -> None:
    rng = np.random.default_rng(2)
    estimates = [cressie_read(drawn(rng), RANGE) for _ in range(400)]
    strays = np.std([e.value for e in estimates])
    assert np.mean([e.se for e in estimates]) == pytest.approx(strays, rel=4 / np.sqrt(800))
    errors = np.array([e.value for e in estimates]) - np.array([0.2, 0.3, 0.4, 0.5]) @ TARGET
    assert abs(errors.mean()) <= 3 * strays / np.sqrt(400)


def test_where_rewards_are_rare_it_covers_and_does_not_explode() -> None:
    rng, n_logs, scale = np.random.default_rng(3), 400, 0.1
    truth = scale * float(np.array([0.2, 0.3, 0.4, 0.5]) @ TARGET)
    held, wider = 0, []
    for _ in range(n_logs):
        columns = drawn(rng, 200, scale)
        estimate, normal = cressie_read(columns, RANGE), snips(columns)
        held += estimate.low <= truth <= estimate.high
        if normal.se > 0.0:
            wider.append((estimate.high - estimate.low) / (2 * 1.96 * normal.se))
    assert held / n_logs >= 0.95
    assert 1.1 < np.median(wider) < 2.0


def test_without_any_reward_seen_the_upper_end_allows_for_what_was_missed() -> None:
    columns = drawn(np.random.default_rng(4))
    none = Columns(columns.user, np.zeros(len(columns)), columns.propensity, columns.target)
    estimate = cressie_read(none, RANGE)
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high > 0.01
    assert snips(none).high == 0.0


def test_sums_of_parts_add_up_to_those_of_the_whole() -> None:
    columns = drawn(np.random.default_rng(5))
    sides = [columns.user % 2 == side for side in (0, 1)]
    fields = ("user", "reward", "propensity", "target")
    parts = [Columns(**{f: getattr(columns, f)[side] for f in fields}) for side in sides]
    together = LikelihoodSums.of(parts[0]) + LikelihoodSums.of(parts[1])
    one, whole = cressie_read_of(together, RANGE), cressie_read(columns, RANGE)
    assert (one.value, one.low, one.high) == pytest.approx((whole.value, whole.low, whole.high))
    assert (one.n, one.n_users) == (whole.n, whole.n_users)
    assert one.ess == pytest.approx(whole.ess)


def test_a_row_of_weight_two_is_two_rows_of_the_same_user() -> None:
    columns = drawn(np.random.default_rng(6))
    row_weight = np.ones(len(columns))
    row_weight[::3] = 2.0
    rows = np.repeat(np.arange(len(columns)), row_weight.astype(int))
    fields = ("user", "reward", "propensity", "target")
    repeated = Columns(**{f: getattr(columns, f)[rows] for f in fields})
    short = Columns(columns.user, columns.reward, columns.propensity, columns.target, row_weight)
    for t in (1.0, 2.0):
        assert LikelihoodSums.of(short).moments().ends(t) == pytest.approx(
            LikelihoodSums.of(repeated).moments().ends(t)
        )


def test_the_cutoff_is_that_of_half_the_misses() -> None:
    columns = drawn(np.random.default_rng(7), 4000)
    estimate = cressie_read(columns, RANGE)
    t = t_quantile(1.0 - 0.05 * MISSES, 3999)
    assert estimate.high - estimate.low == pytest.approx(2 * t * estimate.se, rel=0.05)
    assert MISSES == 0.5


@pytest.mark.parametrize(
    ("user", "rewards", "level", "message"),
    [
        ([3, 3], (0.0, 1.0), 0.95, "at least 2 users, got 1"),
        ([0, 1], (1.0, 1.0), 0.95, "a lowest and a highest reward"),
        ([0, 1], (0.0, 1.0), 1.5, "level must be in"),
    ],
)
def test_what_it_cannot_do_is_refused(
    user: list[int], rewards: tuple[float, float], level: float, message: str
) -> None:
    columns = Columns(np.array(user), np.ones(2), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=message):
        cressie_read(columns, rewards, level)
