"""The sequential test of uploads: it is right as often as it says, and finds the best tenth."""

import math

import numpy as np
import pytest
from auditions import draw_rewards

from env.fair_start.evidence import Evidence
from env.fair_start.settings import OPEN_LEVEL, Pools
from env.fair_start.trial import BELOW_BAR, NOT_PROVEN, UploadTrial
from env.fair_start.verdict import RolloutDecision, Verdicts
from env.vocabulary import CreatorId, Floats, ItemId

NOISE_SD = 0.7
TRIM = 0.1
PROMISING = 0.12
"""An uplift of which 100 impressions lead out of pool 0, and no further at once."""
ONE_LOOK = Pools(caps=(100, 101, 102), at_least=100, bars=(0.0, 0.0, 0.0))


def verdicts_of(uplifts: Floats, trim: float = TRIM) -> Verdicts:
    """Return verdicts that know of these uplifts of ordinary items."""
    verdicts = Verdicts(trim)
    for uplift in uplifts.tolist():
        verdicts.learn(uplift)
    return verdicts


def trial_of(row: int, owed: int = 0) -> UploadTrial:
    name = ItemId(f"u{row}")
    return UploadTrial(row, name, CreatorId(""), "GB", "", {name: ""}, 0, owed, 0, 0)


def show(trial: UploadTrial, uplifts: Floats, verdicts: Verdicts, pools: Pools) -> None:
    """Show an upload until these uplifts are seen or it leaves its level."""
    level = trial.level
    for uplift in uplifts.tolist():
        trial.show(1, counts=True)
        trial.learn(uplift, verdicts, pools, 1)
        trial.close(pools)
        if trial.level != level or trial.stopped:
            return


def normal_uploads(
    n: int, tau: float, mu: float, seed: int, n_seen: int
) -> tuple[Floats, Verdicts]:
    """Return true uplifts, and verdicts that met the uploads after `n_seen` impressions each."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(mu, tau, n)
    verdicts = verdicts_of(rng.normal(0.0, NOISE_SD, 8192))
    for uplift in truth:
        evidence = Evidence()
        for reward in rng.normal(uplift, NOISE_SD, n_seen).tolist():
            evidence.add(reward)
        verdicts.meet(evidence)
    return truth, verdicts


def test_mean_and_spread_of_uploads_are_found_within_their_standard_errors() -> None:
    n, tau, mu = 1000, 0.15, -0.1
    _, verdicts = normal_uploads(n, tau, mu, seed=3, n_seen=100)
    v = verdicts.noise / 100
    se_of_mean = math.sqrt((tau**2 + v) / n)
    se_of_square = (tau**2 + v) * math.sqrt(2.0 / n)
    # The priors weigh 20 uploads of 1,020, and the centre of all uplifts has an error of its own.
    own = 0.02 * abs(mu) + 4.0 * math.sqrt(verdicts.noise / 8192)
    assert abs(verdicts.mu - mu) < 4.0 * se_of_mean + own
    assert abs(verdicts.tau**2 - tau**2) < 4.0 * se_of_square + 0.02 * tau**2


def test_the_noise_is_pooled_over_all_uplifts() -> None:
    verdicts = verdicts_of(np.random.default_rng(5).normal(0.3, NOISE_SD, 8192), trim=0.0)
    # Without trimming it is the plain variance, widened by the split between nodes.
    assert abs(verdicts.noise - NOISE_SD**2) < 4.0 * NOISE_SD**2 * math.sqrt(2 / 8192) + 0.25**2 / 6
    assert verdicts.centre == pytest.approx(0.3, abs=4.0 * NOISE_SD / math.sqrt(8192))


def test_an_upload_without_evidence_has_the_prior() -> None:
    verdicts = verdicts_of(np.zeros(0))
    posterior = verdicts.posterior(Evidence(), bar=0.0)
    assert (posterior.mean, posterior.chance) == (verdicts.mu, 0.5)
    assert posterior.sd == pytest.approx(verdicts.tau)


def test_without_an_effect_as_many_are_promoted_as_the_posterior_says() -> None:
    rng, n = np.random.default_rng(7), 2000
    verdicts = verdicts_of(rng.normal(0.0, NOISE_SD, 32_768))
    tau, v = verdicts.tau, verdicts.noise / 100
    promoted = 0
    for _ in range(n):
        evidence = Evidence()
        for uplift in rng.normal(0.0, NOISE_SD, 100).tolist():
            evidence.add(uplift)
        promoted += verdicts.judge(evidence, 0, ONE_LOOK) is RolloutDecision.PROMOTE
    # chance > .8 is d / sqrt(v) * tau / sqrt(tau^2 + v) > z(.8), and d ~ N(0, v).
    z = 0.8416 * math.sqrt(1.0 + v / tau**2)
    expected = 0.5 * math.erfc(z / math.sqrt(2.0))
    assert abs(promoted / n - expected) < 4.0 * math.sqrt(expected * (1.0 - expected) / n)


def test_of_the_promoted_as_many_are_above_the_bar_as_their_chances_say() -> None:
    """However often it was looked at: that is why the test may be sequential."""
    tau, mu, pools = 0.12, -0.05, Pools(bars=(0.5, 9.0, 9.0))
    _, verdicts = normal_uploads(2000, tau, mu, seed=10, n_seen=100)
    rng, chances, right = np.random.default_rng(9), [], []
    for row in range(1200):
        truth, trial = rng.normal(mu, tau), trial_of(row)
        trial.met = True
        rewards = rng.normal(truth, NOISE_SD, pools.caps[0])
        show(trial, rewards, verdicts, pools)
        if trial.level:
            seen = Evidence()
            for uplift in rewards[: trial.impressions].tolist():
                seen.add(uplift)
            chances.append(verdicts.posterior(seen, 0.5).chance)
            right.append(truth > mu + 0.5 * tau)
    assert len(right) > 150
    assert abs(np.mean(right) - np.mean(chances)) < 4.0 * math.sqrt(0.16 / len(right))


@pytest.mark.parametrize("kind", ["events", "normal"])
def test_the_best_tenth_comes_far_and_few_others_do(kind: str) -> None:
    rng, pools, n = np.random.default_rng(11), Pools(), 400
    truth = rng.normal(-0.03, 0.12, n)

    def draw(uplift: float, n_seen: int) -> Floats:
        if kind == "normal":
            return rng.normal(uplift, NOISE_SD, n_seen)
        return draw_rewards(rng, n_seen, uplift) - 0.59 + rng.normal(0.0, 0.1, n_seen)

    verdicts = verdicts_of(draw(0.0, 8192))
    trials = [trial_of(row, owed=100) for row in range(n)]
    for _ in range(60):
        for trial, uplift in zip(trials, truth.tolist(), strict=True):
            if not trial.stopped and trial.level < 2:
                show(trial, draw(uplift, 50), verdicts, pools)
    reached = np.array([trial.level >= 2 for trial in trials])
    best = truth >= np.quantile(truth, 0.9)
    assert (reached & best).sum() / best.sum() >= 0.7
    assert (reached & best).sum() / reached.sum() >= 0.65


def test_what_is_poor_is_stopped_when_it_had_what_it_was_owed() -> None:
    verdicts, pools = verdicts_of(np.zeros(0)), Pools(at_least=50)
    trial = trial_of(0, owed=80)
    show(trial, np.full(79, -1.0), verdicts, pools)
    assert (trial.stopped, trial.paid_ms) == ("", 0)
    show(trial, np.full(1, -1.0), verdicts, pools)
    assert (trial.stopped, trial.paid_ms, trial.level) == (BELOW_BAR, 1, 0)


def test_what_does_not_prove_itself_is_stopped_at_the_cap() -> None:
    verdicts = verdicts_of(np.zeros(0))
    trial = trial_of(0)
    show(trial, np.zeros(400), verdicts, Pools(promote=(0.99,) * 3, demote=0.01))
    assert (trial.stopped, trial.impressions) == (NOT_PROVEN, 300)


def test_a_cap_below_the_debt_stops_nothing_before_it_is_paid() -> None:
    trial = trial_of(0, owed=400)
    show(trial, np.zeros(500), verdicts_of(np.zeros(0)), Pools(promote=(0.99,) * 3, demote=0.01))
    assert (trial.stopped, trial.impressions) == (NOT_PROVEN, 400)


def test_a_promotion_is_dated_and_forgets_nothing() -> None:
    trial, pools = trial_of(0), Pools()
    show(trial, np.full(100, 2.0), verdicts_of(np.zeros(0)), pools)
    assert (trial.level, trial.level_ms) == (1, (0, 1, 0, 0))
    assert sum(trial.evidence.nodes) == pytest.approx(100)


def test_who_is_sent_back_has_half_of_the_evidence_left() -> None:
    trial, verdicts, pools = trial_of(0), verdicts_of(np.zeros(0)), Pools()
    show(trial, np.full(100, PROMISING), verdicts, pools)
    show(trial, np.full(400, -2.0), verdicts, pools)
    assert (trial.level, trial.top) == (0, 1)
    assert sum(trial.evidence.nodes) == pytest.approx(0.5 * trial.impressions)
    assert trial.rewards == trial.impressions // 2


def test_the_best_gets_to_the_open_pool() -> None:
    trial, verdicts = trial_of(0), verdicts_of(np.zeros(0))
    for _ in range(OPEN_LEVEL):
        show(trial, np.full(100, 2.0), verdicts, Pools())
    assert (trial.level, trial.is_over) == (OPEN_LEVEL, True)


def test_who_is_sent_back_is_held_to_the_bar_that_it_failed() -> None:
    trial, verdicts, pools = trial_of(0), verdicts_of(np.zeros(0)), Pools()
    show(trial, np.full(100, PROMISING), verdicts, pools)
    show(trial, np.full(400, -2.0), verdicts, pools)
    assert (trial.level, trial.top, trial.stopped) == (0, 1, "")
    seen, known = trial.impressions, trial.rewards
    show(trial, np.full(400, -2.0), verdicts, pools)
    assert trial.stopped == BELOW_BAR
    # It had a second trial of its own, beyond the cap of pool 0 or not.
    assert trial.impressions - seen == pools.at_least - known > 0
