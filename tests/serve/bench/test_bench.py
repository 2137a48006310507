import itertools
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec
import numpy as np
import pytest
from servers import START_MS

from env.columns.schema import N_ACTION, N_SHARED
from env.records import (
    Card,
    Drawn,
    FeedbackKind,
    FeedbackRecord,
    LogLine,
    PageRecord,
    RuleRecord,
    TickRecord,
)
from env.vocabulary import Features, ItemId, PageId, Scene, SessionId, UserKey, decision_id
from policies.bandit.settings import HybridBanditArgs
from policies.explorers import Epsilon
from replay.estimators.intervals import Estimate
from serve.bench.decide import run_decide
from serve.bench.loop import LoopSize, effect_lag_p95_s, run_loop, uplift
from serve.config import Config
from tests.studies.evaluation.learner_settings import LearnerSize, Setting, run_learner
from tests.studies.peers.learn_text import run_learn_text
from tests.studies.peers.vowpal_dsjson import DsjsonLearner, decision_line


def test_the_loop_closes_on_a_real_server_and_proves_itself_from_the_log() -> None:
    size = LoopSize(learn=300, compare=700, users=200, present=30)
    # In a process of its own: the edge's switches must be set before anything imports ray.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        running = alone.submit(
            run_loop, size, seed=1, kuairand=None, now_ms=START_MS, advance=tell_nobody
        )
        result = running.result()
    assert result.http_errors == 0
    assert result.feedback_acked == result.feedback_logged > 2 * (size.learn + size.compare)
    assert result.redrawn_decisions >= size.learn + size.compare
    assert (result.redrawn_mismatches, result.propensity_max_error) == (0, 0.0)
    assert result.versions > 0
    assert 0.0 < result.effect_lag_p95_s < math.inf
    assert result.ope_errors_apart < 4.0
    assert 0.0 < result.true_value < 4.5
    assert result.response_auc is None


def test_learning_rates_and_settings_are_compared() -> None:
    told: list[tuple[str, int, int]] = []
    result = run_learner(
        LearnerSize(cards=300, users=60, present=20),
        seed=1,
        kuairand=None,
        now_ms=START_MS,
        advance=lambda *step: told.append(step),
        rates=((0.5, 0.0), (0.25, 0.25)),
        settings=(Setting(), Setting(explorer=Epsilon(0.2))),
    )
    assert [(p.learning_rate, p.power_t) for p in result.predicted] == [(0.5, 0.0), (0.25, 0.25)]
    found = [p.correlation for p in result.predicted]
    assert found[0] != found[1]
    assert all(-1.0 < correlation < 1.0 for correlation in [*found, result.ridge_correlation])
    assert [gained.setting for gained in result.gained] == [
        Setting(),
        Setting(explorer=Epsilon(0.2)),
    ]
    for gained in result.gained:
        assert gained.gain == pytest.approx(gained.reward / result.reward_uniform - 1.0)
        assert gained.gain_low < gained.gain
    last = {step: (done, total) for step, done, total in told}
    assert all(done >= total for done, total in last.values()), last
    assert len(last) == 5


def test_a_page_is_timed_by_step() -> None:
    clock = itertools.count(0, 1_000)
    result = run_decide(
        n_items=300,
        n_pages=20,
        seed=1,
        now_ms=START_MS,
        clock_ns=lambda: next(clock),
        advance=tell_nobody,
        n_warm_pages=20,
    )
    assert list(result.stages) == ["observe", "retrieve", "filter", "encode", "fill", "record"]
    assert sum(result.stages.values()) == pytest.approx(1.0, abs=1e-3)
    assert result.ratio_to_text == 1.0, "each takes one tick of this clock"
    assert result.while_indexing is None
    assert result.recall_at_200 == {"long_interest": 1.0, "session_interest": 1.0}


def test_pages_that_look_into_an_index_are_timed_beside_a_smaller_catalogue() -> None:
    clock = itertools.count(0, 1_000)
    result = run_decide(
        n_items=12_000,
        n_pages=20,
        seed=1,
        now_ms=START_MS,
        clock_ns=lambda: next(clock),
        advance=tell_nobody,
        n_warm_pages=20,
        least_items=10_000,
        base_items=500,
    )
    assert result.growth == pytest.approx(1.0), "each step takes one tick of this clock"
    assert result.while_indexing is not None
    assert all(recall >= 0.95 for recall in result.recall_at_200.values())
    assert set(result.bytes_per_item) == {"catalogue", "states", "index"}
    assert result.upload_visible_s > 0.0


def test_learning_is_timed_from_a_log_beside_the_text_of_the_same_decisions() -> None:
    clock = itertools.count(0, 1_000_000)
    result = run_learn_text(
        n_pages=60,
        seed=1,
        now_ms=START_MS,
        clock_ns=lambda: next(clock),
        advance=tell_nobody,
        n_items=300,
    )
    assert result.lines == 60 * 31
    assert 500 < result.interactions <= 600
    assert result.interactions_per_s == pytest.approx(result.interactions * 1e3, rel=0.1)
    assert result.ratio_to_text == pytest.approx(result.interactions_per_s / result.text_per_s)
    assert result.text_per_s == result.chosen_text_per_s, "as many lines, and one tick each"


def test_a_dsjson_line_teaches_what_it_says() -> None:
    features = Features(
        np.array([0.5, 0.0, *[0.25] * (N_SHARED - 2)], dtype=np.float32),
        np.full((3, N_ACTION), 0.5, dtype=np.float32),
        np.arange(3, dtype=np.uint64),
    )
    line = decision_line(features, 1, reward=0.75, propensity=0.5)
    told = msgspec.json.decode(line)
    assert (told["_label_cost"], told["_label_probability"], told["_labelIndex"]) == (-0.75, 0.5, 1)
    assert told["a"] == [2, 1, 3]
    assert "1" not in told["c"]["U"], "what is 0 is no feature"
    assert len(told["c"]["_multi"]) == 3
    learner = DsjsonLearner(HybridBanditArgs())
    learner.learn([line] * 3)
    assert np.count_nonzero(learner.weights) > 0


@pytest.mark.parametrize(("learned", "gain"), [(0.6, 0.2), (0.5, 0.0), (0.4, -0.2)])
def test_the_uplift_is_the_relative_gain_with_a_bound_below(learned: float, gain: float) -> None:
    found, low = uplift(earned(learned, 0.01), earned(0.5, 0.01))
    assert found == pytest.approx(gain)
    assert low < found
    assert uplift(earned(learned, 0.001), earned(0.5, 0.001))[1] > low


def test_the_uplifts_bound_is_missed_in_a_fortieth_of_all_samples() -> None:
    rng = np.random.default_rng(5)
    n, missed = 4_000, 0
    for a, b in 0.01 * rng.standard_normal((n, 2)):
        missed += uplift(earned(0.6 + a, 0.01), earned(0.5 + b, 0.01))[1] > 0.2
    expected = 0.025
    assert abs(missed / n - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_a_learner_that_stalls_shows_in_the_lag() -> None:
    served = log_of(pages_by={1: "vowpal@0", 40: "vowpal@1"}, seconds=60)
    stalled = log_of(pages_by={1: "vowpal@0", 40: "vowpal@0"}, seconds=60)
    offsets = {1: 30}
    closes_s = 1 + 10 + 2  # seen, left after 10 s, settled; reported by the tick a second later
    assert effect_lag_p95_s(served, Config(), offsets) == pytest.approx(40 - closes_s, abs=1.5)
    assert effect_lag_p95_s(stalled, Config(), offsets) == pytest.approx(60 - closes_s, abs=1.5)


def log_of(pages_by: dict[int, str], seconds: int) -> list[LogLine]:
    """Return a log with a line a second: pages at some, one card that is seen, ticks else."""
    lines = []
    for second in range(1, seconds + 1):
        at_ms = START_MS + 1_000 * second
        record: PageRecord | FeedbackRecord | TickRecord = TickRecord(at_ms)
        if second in pages_by:
            record = page_of(f"p{second}", pages_by[second], at_ms)
        elif second in {2, 11}:
            kind: FeedbackKind = "impression" if second == 2 else "leave"
            decision = decision_id(PageId("p1"), 0)
            record = FeedbackRecord(
                str(second), decision, at_ms, UserKey("u"), SessionId("s"), kind
            )
        lines.append(LogLine(second, record, written_ms=at_ms))
    return lines


def page_of(page_id: str, policy: str, at_ms: int) -> PageRecord:
    return PageRecord(
        page_id=PageId(page_id),
        at_ms=at_ms,
        user=UserKey("u"),
        session=SessionId("s"),
        scene=Scene(at_ms),
        candidates=(ItemId("i"),),
        blocks=b"\0" * 8,
        dynamic=b"\0\0",
        shared=b"\0\0",
        feature_schema=1,
        rules=(RuleRecord("open", b"\1", b"\1"),),
        slots=(0,),
        drawn=(Drawn(0, 0, 1.0),),
        cards=(Card(ItemId("i"), b"\0\0"),),
        reasons=("random",),
        policy=policy,
        explorer={"kind": "uniform"},
        eps=0.0,
    )


def earned(value: float, se: float) -> Estimate:
    return Estimate("logged", value, se, value - 2 * se, value + 2 * se, 0.95, 1000, 100, 1000.0)


def tell_nobody(step: str, done: int, total: int) -> None:
    assert done >= 0
    assert total > 0
