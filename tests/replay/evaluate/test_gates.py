"""Gates: each closes on its own, says what to do, and where one is closed there is no number."""

import msgspec
import numpy as np
import pytest
from logs import Batches, Fixed, draw_batch

from env.vocabulary import Floats
from replay.evaluate.calibration import ArmSizes, Calibration
from replay.evaluate.evaluate import PolicyReport, evaluate_all
from replay.evaluate.gates import Gates
from replay.evaluate.health import EvaluationHealth, LogHealth, WeightShape
from replay.source import Batch

GOOD = EvaluationHealth(
    n=2_000,
    n_users=50,
    ess=900.0,
    ess_share=0.45,
    mean_weight=1.0,
    mean_weight_se=0.02,
    max_weight=8.0,
    max_weight_share=0.01,
    max_user_share=0.02,
    min_propensity=0.02,
    n_rewards=200,
    effective_rewards=90.0,
    shape=WeightShape((0.0,), (1.0,), (1.0,)),
    log=LogHealth(n_pages=500, seen_share=1.0, censored_share=0.0, first_ms=0, last_ms=1),
)
LARGEST = "largest weight: expected at most 5.0% of all weight on one decision"
REWARDS = "rewards: expected at least 20 decisions with another reward than the commonest"
UNIFORM = Fixed((0.2,) * 5, "uniform")


def test_a_healthy_log_passes() -> None:
    assert Gates().refusals(GOOD) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_users": 19}, "users: expected at least 20, got 19"),
        (
            {"ess": 499.4},
            "effective sample size: expected at least 500 decisions, got 499 of 2,000",
        ),
        ({"max_weight_share": 0.06}, f"{LARGEST}, got 6.0% (a weight of 8.0)"),
        (
            {"n_rewards": 19},
            f"{REWARDS}, got 19",
        ),
        ({"mean_weight": 0.85}, "mean weight: expected within 0.10 of 1, got 0.85"),
        ({"mean_weight": float("nan")}, "mean weight: expected within 0.10 of 1, got nan"),
        (
            {"unsupported_share": 0.02},
            "support: expected at most 1% of the target where the log gave no chance, got 2.0%",
        ),
    ],
)
def test_what_the_weights_are_not_worth_closes_a_gate(
    changes: dict[str, float], message: str
) -> None:
    (refusal,) = Gates().refusals(msgspec.structs.replace(GOOD, **changes))
    assert str(refusal) == message
    assert refusal.advice


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"calibration": Calibration("pit", 900, (1.0,), 1e-5)}, "calibration of propensities"),
        ({"calibration": Calibration("pit", 900, (1.0,), 0.5, 1e-3)}, "logged propensities"),
        (
            {"arms": ArmSizes({"a": 9, "b": 1}, {"a": 5.0, "b": 5.0}, 1e-9)},
            "sample ratio of the arms",
        ),
    ],
)
def test_a_log_that_is_wrong_itself_closes_a_gate(changes: dict[str, object], gate: str) -> None:
    log = msgspec.structs.replace(GOOD.log, **changes)
    (refusal,) = Gates().refusals(msgspec.structs.replace(GOOD, log=log))
    assert refusal.gate == gate
    assert Gates(min_p=0.0).refusals(msgspec.structs.replace(GOOD, log=log)) == (
        (refusal,) if gate == "logged propensities" else ()
    )


def test_a_mean_weight_may_miss_by_three_standard_errors() -> None:
    allowed = msgspec.structs.replace(GOOD, mean_weight=1.2, mean_weight_se=0.07)
    assert Gates().refusals(allowed) == ()


def answer(n: int, *, force: bool = False, target: Fixed = UNIFORM) -> PolicyReport:
    """Return what so many foreign decisions say, by part too."""
    half = np.where(np.arange(n) < n // 8, "few", "many")
    source = Batches([draw_batch(n, segments={"half": half})])
    return evaluate_all(source, [target], segments=["half"], force=force).reports[0]


def test_a_refused_log_gives_no_number() -> None:
    report = answer(400)
    assert [refusal.gate for refusal in report.refusals] == ["effective sample size"]
    assert report.estimates == ()
    assert report.gain is None
    assert not report.forced
    with pytest.raises(KeyError, match="the log was refused: effective sample size: expected"):
        report.estimate("dr")


def test_a_forced_number_is_marked() -> None:
    report = answer(400, force=True)
    assert report.forced
    assert report.refusals
    assert report.estimate("dr").se > 0.0


def test_an_open_gate_leaves_nothing_to_force() -> None:
    report = answer(2_000, force=True)
    assert (report.refusals, report.forced) == ((), False)


def test_a_part_has_gates_of_its_own() -> None:
    report = answer(2_400)
    few, many = sorted(report.parts, key=lambda part: part.value)
    assert (few.n, many.n) == (300, 2_100)
    assert [r.gate for r in few.refusals] == ["effective sample size"]
    assert few.estimate is None
    assert few.gain is None
    assert many.refusals == ()
    assert many.estimate is not None
    assert many.gain is not None
    forced = [part for part in answer(2_400, force=True).parts if part.forced]
    assert [part.value for part in forced] == ["few"]


def test_what_is_wrong_with_the_log_is_wrong_with_its_parts() -> None:
    n = 8_000
    half = np.where(np.arange(n) < n // 2, "a", "b")
    source = Batches([draw_batch(n, temperature=0.6, segments={"half": half})])
    (report,) = evaluate_all(source, [UNIFORM], segments=["half"]).reports
    gates = [[r.gate for r in part.refusals] for part in report.parts]
    assert all("calibration of propensities" in names for names in gates)


def test_a_part_is_refused_by_what_the_log_gave_no_chance_in_it() -> None:
    """In half of the log the last candidate never came; the other half may be answered for."""
    n = 8_000
    narrow = np.arange(n) < n // 2
    pmf = np.where(narrow[:, np.newaxis], [[0.25, 0.25, 0.25, 0.25, 0.0]], 0.2)
    action = (np.random.default_rng(8).random((n, 1)) > np.cumsum(pmf, axis=1)[:, :-1]).sum(axis=1)
    propensity = pmf[np.arange(n), action]
    near = Fixed((0.24, 0.24, 0.24, 0.24, 0.04), "near")
    half = np.where(narrow, "narrow", "wide")
    batch = draw_batch(n, pmf=pmf, action=action, propensity=propensity, segments={"half": half})
    (report,) = evaluate_all(Batches([batch]), [near], segments=["half"]).reports
    parts = {part.value: part for part in report.parts}
    assert [refusal.gate for refusal in report.refusals] == ["support"]
    assert [refusal.gate for refusal in parts["narrow"].refusals] == ["support"]
    assert parts["narrow"].unsupported_share == pytest.approx(0.04)
    assert (parts["narrow"].estimate, parts["narrow"].gain) == (None, None)
    assert (parts["wide"].unsupported_share, parts["wide"].refusals) == (0.0, ())
    assert parts["wide"].gain is not None


def test_a_row_of_a_thinned_log_counts_as_often_in_the_support_as_it_stands_for() -> None:
    n = 4_000
    narrow = np.arange(n) < n // 2
    pmf = np.where(narrow[:, np.newaxis], [[0.25, 0.25, 0.25, 0.25, 0.0]], 0.2)
    action = np.arange(n) % 4
    batch = draw_batch(
        n,
        pmf=pmf,
        action=action,
        propensity=pmf[np.arange(n), action],
        row_weight=np.where(narrow, 9.0, 1.0),
    )
    (report,) = evaluate_all(Batches([batch]), [UNIFORM]).reports
    assert report.health.unsupported_share == pytest.approx(0.2 * 0.9)


def test_a_log_without_a_reward_is_refused_and_its_cautious_interval_has_a_width() -> None:
    source = Batches([draw_batch(reward=np.zeros(3_000))])
    (report,) = evaluate_all(source, [UNIFORM]).reports
    assert [refusal.gate for refusal in report.refusals] == ["rewards"]
    assert report.estimates == ()
    (forced,) = evaluate_all(source, [UNIFORM], force=True).reports
    assert (forced.estimate("ips").low, forced.estimate("ips").high) == (0.0, 0.0)
    assert forced.estimate("cressie-read").low == 0.0
    assert 1e-4 < forced.estimate("cressie-read").high < 0.05


def test_the_cautious_interval_goes_by_the_range_that_the_source_declares() -> None:
    batch = draw_batch()
    narrow, wide = (
        evaluate_all(Batches([batch], reward_range=rewards), [UNIFORM]).reports[0]
        for rewards in ((0.0, 1.0), (-5.0, 5.0))
    )
    assert wide.estimate("cressie-read").high > narrow.estimate("cressie-read").high
    assert wide.estimate("cressie-read").low < narrow.estimate("cressie-read").low
    assert wide.estimate("ips") == narrow.estimate("ips")


def test_values_of_a_segment_that_are_left_out_are_counted() -> None:
    city = np.array([f"city{i % 47}" for i in range(3_000)])
    found = evaluate_all(Batches([draw_batch(segments={"city": city})]), [UNIFORM])
    assert found.hidden_values == {}
    found = evaluate_all(
        Batches([draw_batch(segments={"city": city})]), [UNIFORM], segments=["city"]
    )
    assert found.hidden_values == {"city": 7}
    assert len(found.reports[0].parts) == 40


class Broken(Fixed):
    """A target whose code fails in a way of its own."""

    def probabilities(self, batch: Batch) -> Floats:
        """Fail."""
        raise KeyError(f"no price in {len(batch)} decisions")


def test_a_target_whose_code_fails_is_named() -> None:
    with pytest.raises(ValueError, match=r"mine@1: expected probabilities, .* raised KeyError"):
        evaluate_all(Batches([draw_batch()]), [Broken(UNIFORM.pmf, "mine@1")])


def test_a_target_that_never_agrees_with_the_log_cannot_be_forced() -> None:
    batch = draw_batch(2_000, 6)
    mask = np.ones((2_000, 6), dtype=np.bool_)
    kept = batch.action != 5
    sure = Fixed((0.0, 0.0, 0.0, 0.0, 0.0, 1.0), "sure")
    action = np.where(kept, batch.action, 0)
    source = Batches([draw_batch(2_000, 6, action=action, mask=mask)])
    (report,) = evaluate_all(source, [sure], force=True).reports
    assert report.health.ess == 0.0
    assert (report.estimates, report.gain, report.forced) == ((), None, False)


def test_what_the_log_gave_no_chance_is_known_where_its_distributions_are() -> None:
    n = 4_000
    pmf = np.tile([0.5, 0.3, 0.2, 0.0, 0.0], (n, 1))
    action = np.random.default_rng(2).choice(5, size=n, p=pmf[0])
    source = Batches([draw_batch(n, pmf=pmf, action=action, propensity=pmf[0][action])])
    (report,) = evaluate_all(source, [UNIFORM]).reports
    assert report.health.unsupported_share == pytest.approx(0.4)
    assert report.health.largest_possible_weight == pytest.approx(1.0)
    assert [refusal.gate for refusal in report.refusals] == ["mean weight", "support"]


def test_a_question_that_is_none_is_refused() -> None:
    source = Batches([draw_batch(600)])
    with pytest.raises(ValueError, match="needs policies, got none"):
        evaluate_all(source, [])
    with pytest.raises(ValueError, match=r"expected segments of \[\], got \['planet'\]"):
        evaluate_all(source, [UNIFORM], segments=["planet"])
    with pytest.raises(ValueError, match="needs decisions to fit on, got none"):
        evaluate_all(Batches([]), [UNIFORM])
