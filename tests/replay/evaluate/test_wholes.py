"""The value of whole pages and sessions, where the truth is known exactly."""

import numpy as np
import pytest

from replay.estimators.columns import Columns, RewardPredictions
from replay.evaluate.wholes import WholeGates, WholeValue, whole_value
from tests.studies.evaluation.coverage_pages import cards_of
from tests.studies.evaluation.worlds import N_ITEMS, N_SCENES, PagePolicy, PageWorld

APPEAL = np.random.default_rng(2).normal(-0.8, 0.9, size=(N_SCENES, N_ITEMS))
LOGGING, TARGET = PagePolicy.of(0.5 * APPEAL), PagePolicy.of(1.3 * APPEAL)
WORLD = PageWorld.of(APPEAL)
RUNS = 60


def values_of(target: PagePolicy, n_users: int = 200, runs: int = RUNS) -> list[WholeValue]:
    rng, found = np.random.default_rng(3), []
    for _ in range(runs):
        log = WORLD.draw(LOGGING, n_users, 10, rng)
        columns, predictions, page, slot = cards_of(log, LOGGING, target)
        found.append(whole_value("page", columns, predictions, page, (slot,)))
    return found


def test_a_page_is_worth_what_the_policys_own_pages_earn() -> None:
    truth = WORLD.value(TARGET)
    found = values_of(TARGET)
    assert not any(each.refusals for each in found)
    errors = np.array([each.value for each in found]) - truth
    assert abs(errors.mean()) <= 3.0 * errors.std(ddof=1) / np.sqrt(RUNS)
    holds = np.mean([each.low <= truth <= each.high for each in found])  # type: ignore[operator]
    assert holds >= 0.93 - 3.0 * np.sqrt(0.93 * 0.07 / RUNS)


def test_the_order_of_the_rows_does_not_matter() -> None:
    log = WORLD.draw(LOGGING, 100, 10, np.random.default_rng(4))
    columns, predictions, page, slot = cards_of(log, LOGGING, TARGET)
    shuffled = np.random.default_rng(5).permutation(len(columns))
    other = Columns(
        user=columns.user[shuffled],
        reward=columns.reward[shuffled],
        propensity=columns.propensity[shuffled],
        target=columns.target[shuffled],
    )
    moved = RewardPredictions(predictions.chosen[shuffled], predictions.direct[shuffled])
    one = whole_value("page", columns, predictions, page, (slot,))
    two = whole_value("page", other, moved, page[shuffled], (slot[shuffled],))
    assert one.value == pytest.approx(two.value, rel=1e-12)
    assert one.ess == pytest.approx(two.ess)


def test_the_logs_own_policy_earns_what_was_logged() -> None:
    (found,) = values_of(LOGGING, runs=1)
    assert found.ess == pytest.approx(found.n) == 2_000
    assert found.mean_weight == pytest.approx(1.0)
    assert found.mean_weight_se == pytest.approx(0.0)
    assert found.value == pytest.approx(found.logged.value, rel=0.02)
    assert 1.0 < found.n_cards < 5.0


@pytest.mark.parametrize(
    ("n_users", "gates", "gate"),
    [
        (10, WholeGates(), "users of pages"),
        (30, WholeGates(), "effective pages"),
        (200, WholeGates(max_weight_share=0.001), "largest weight of a page"),
    ],
)
def test_each_gate_refuses_and_says_what_came(n_users: int, gates: WholeGates, gate: str) -> None:
    log = WORLD.draw(LOGGING, n_users, 10, np.random.default_rng(6))
    columns, predictions, page, slot = cards_of(log, LOGGING, TARGET)
    found = whole_value("page", columns, predictions, page, (slot,), gates=gates)
    assert gate in [refusal.gate for refusal in found.refusals]
    assert (found.value, found.low, found.is_answered) == (None, None, False)
    forced = whole_value("page", columns, predictions, page, (slot,), gates=gates, force=True)
    assert forced.forced
    assert forced.value is not None
    assert not forced.is_answered


def test_wrong_propensities_show_in_the_mean_weight() -> None:
    log = WORLD.draw(LOGGING, 300, 10, np.random.default_rng(6))
    columns, predictions, page, slot = cards_of(log, LOGGING, TARGET)
    wrong = Columns(columns.user, columns.reward, 0.6 * columns.propensity, columns.target)
    found = whole_value("page", wrong, predictions, page, (slot,))
    assert "mean weight of pages" in [refusal.gate for refusal in found.refusals]


def test_a_session_is_all_of_its_pages_in_the_order_of_time() -> None:
    log = WORLD.draw(LOGGING, 600, 2, np.random.default_rng(7))
    columns, predictions, page, slot = cards_of(log, LOGGING, TARGET)
    found = whole_value("session", columns, predictions, columns.user, (page, slot), force=True)
    assert found.n == 600
    assert found.n_cards == pytest.approx(len(columns) / 600)
    truth = 2.0 * WORLD.value(TARGET)  # pages of a user do not depend on each other here
    assert found.se is not None
    assert found.value is not None
    assert abs(found.value - truth) <= 3.5 * found.se
