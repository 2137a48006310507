"""Recipes of the built-in presets: the draft and the target statistics of each.

`kuairand` follows KuaiRand-Pure (Gao et al., CIKM 2022, CC BY-SA 4.0), with assumed session
lengths. `daily`, an app opened nearly every day, and `rapid`, a small world for tests, are
assumptions throughout. `kuaisim` keeps KuaiSim's published constants.

Sources and assumptions: `docs/decisions/world-presets.md`.
"""

import numpy as np
from msgspec.structs import replace

from env.calibration.impressions import ImpressionTable
from env.calibration.return_gaps import GapMixture
from env.world.answers import N_UNIFORMS, Rates, answer, item_terms
from env.world.kuaisim import cross_session
from env.world.moments import GAP_DAYS, RARE, LogStatistics, log_statistics, poststratify
from env.world.moods import StateDynamics
from env.world.presets import Cohort, Population, Preset, Uploads

KUAIRAND_SOURCE = (
    "KuaiRand-Pure (Gao et al., CIKM 2022, CC BY-SA 4.0): rates and gaps of all exposures, watch "
    "times of a sample weighted to those rates; assumed: sessions, who of a cohort comes daily, "
    "what hour and device do, and all that is slow"
)

DAILY_SOURCE = (
    "assumed: an app opened nearly every day, 45% of a video watched on average, rare events as in "
    "KuaiRand-Pure (Gao et al., CIKM 2022, CC BY-SA 4.0)"
)

KUAIRAND_N = 1_436_609

KUAIRAND_RATES = {
    "valid_play": 0.4597,
    "long_view": 0.3318,
    "like": 0.01848,
    "comment": 0.00255,
    "share": 0.00096,
    "follow": 0.00107,
    "not_interested": 0.00049,
}

KUAIRAND_JOINT = {
    "long_view|valid_play": 0.7190,
    "like|valid_play": 0.03395,
    "comment|valid_play": 0.00538,
    "share|valid_play": 0.00185,
    "follow|valid_play": 0.00208,
    "not_interested|valid_play": 0.00048,
    "like|long_view": 0.0372,
    "comment|like": 0.0212,
    "share|like": 0.0082,
    "follow|like": 0.0249,
}

KUAIRAND_GAPS = (
    236_935, 63_521, 30_238, 18_152, 11_890, 8_076, 5_428, 3_622,
    2_222, 1_420, 937, 582, 417, 272, 212, 71,
)  # fmt: skip

SESSION_CARDS = 24.0

DAILY_CARDS = 30.0

DAILY_ENGAGED = 0.6

DEVICE_LEANS = {"desktop": -0.2, "tablet": 0.1}

EVENING = 0.1

VISITS = ("session_cards", "session_tail")

KUAIRAND_DAILY = {
    "2_14_day_new": -1.2,
    "30day_retention": -1.5,
    "UNKNOWN": -1.0,
    "day_new": -1.5,
    "full_active": 0.0,
    "high_active": -0.4,
    "low_active": -2.0,
    "middle_active": -1.0,
    "single_low_active": -2.5,
}
"""Log-odds of a cohort's daily users relative to the fully active: assumed, in the order of the
cohorts' names. The part of a stream that Pure keeps holds no information about visits, so they are
not counted from it."""


def kuairand_draft(source: str) -> Preset:
    """Return the assumed part of `kuairand`: the effects of hour and device."""
    population = Population(cohorts={}, device_leans=DEVICE_LEANS, evening=EVENING)
    return Preset(name="kuairand", source=source, population=population)


def kuairand_target(sample: ImpressionTable, midnight_ms: int) -> LogStatistics:
    """Return the target statistics of the preset `kuairand`.

    Args:
        sample: of KuaiRand-Pure's standard log; only its watch times count.
        midnight_ms: any midnight of Shanghai.
    """
    weight = poststratify(sample, KUAIRAND_RATES)
    return replace(
        log_statistics(sample, midnight_ms, weight),
        n=KUAIRAND_N,
        rates=KUAIRAND_RATES,
        joint=KUAIRAND_JOINT,
        gaps=KUAIRAND_GAPS,
        session_cards=SESSION_CARDS,
        session_tail=assumed_tail(SESSION_CARDS),
        assumed=VISITS,
    )


def with_assumed_visits(population: Population, daily_share: float) -> Population:
    """Return KuaiRand's cohorts with the assumed order of daily shares, at this mean share."""
    offset = {name: KUAIRAND_DAILY.get(name, 0.0) for name in population.cohorts}
    share = {name: cohort.share for name, cohort in population.cohorts.items()}
    low, high, base = -8.0, 8.0, 0.0
    for _ in range(60):
        mean = sum(share[name] / (1.0 + np.exp(-base - offset[name])) for name in offset)
        low, high = (base, high) if mean < daily_share else (low, base)
        base = 0.5 * (low + high)
    cohorts = {
        name: replace(cohort, daily_share=float(1.0 / (1.0 + np.exp(-base - offset[name]))))
        for name, cohort in population.cohorts.items()
    }
    return replace(population, cohorts=cohorts)


def assumed_tail(cards: float) -> float:
    """Return the assumed slope of ln P(length > n) of sessions of this mean length.

    Users tire: beyond the median a session ends a fifth sooner than 1 card in `cards`.

    >>> round(assumed_tail(24.0), 3)
    -0.05
    """
    return -1.2 / cards


def daily() -> tuple[Preset, LogStatistics]:
    """Return draft and target of the app that is opened nearly every day."""
    mixture = GapMixture(np.array([0.8, 0.2]), np.array([0.92, 0.46]))
    cohorts = {
        "regular": Cohort(share=0.7, daily_share=0.75, lean=0.05, peak_hours=(12.5, 21.0)),
        "casual": Cohort(share=0.25, daily_share=0.45, lean=-0.1, peak_hours=(13.0, 20.0)),
        "new": Cohort(share=0.05, daily_share=0.3, lean=-0.05, peak_hours=(15.0, 21.5)),
    }
    draft = Preset(
        name="daily",
        source="",
        population=Population(cohorts=cohorts, device_leans=DEVICE_LEANS, evening=EVENING),
        rates=Rates(zero=0.05, watch_mu=_at_mean(24.0), watch_sd=0.9, loop=0.3),
        moods=StateDynamics(return_classes=(0.92, 0.46)),
        uploads=Uploads(log_duration_mu=float(np.log(30.0)), log_duration_sd=0.8),
        intercept=0.5,
    )
    watched = _watched(draft, n=400_000)
    return draft, replace(
        _with_events(log_statistics(watched)),
        gaps=tuple(np.round(1e6 * mixture.pmf(GAP_DAYS)).astype(int).tolist()),
        session_cards=DAILY_CARDS,
        session_tail=assumed_tail(DAILY_CARDS),
        assumed=("rates", "joint", "watch_mean_s", "watch_zero", "log_watch", "gaps", *VISITS),
    )


def rapid() -> Preset:
    """Return the small world for tests: short sessions, two weeks, few items."""
    return Preset(
        name="rapid",
        source="assumed throughout: small and short, for tests",
        population=Population(cohorts={"everybody": Cohort(share=1.0, daily_share=0.6)}),
        moods=StateDynamics(exit=-1.6),
        uploads=Uploads(n_items=256, n_creators=32, a_day=16.0),
        horizon_days=14,
    )


def kuaisim() -> Preset:
    """Return KuaiSim's published setting across sessions, see `env.world.kuaisim`.

    Satiation, load and days have no effect on answers in it.
    """
    return Preset(
        name="kuaisim",
        source=(
            "constants of KuaiSim's code and scripts (Zhao et al., NeurIPS 2023): leaving by "
            "temper, return by the last slate's reward; its trained user model is not part of it"
        ),
        population=Population(
            cohorts={"everybody": Cohort(share=1.0, daily_share=1.0)}, newcomers=0.0, drift=0.0
        ),
        rates=Rates(satiation=0.0, load=0.0),
        uploads=Uploads(give_up=0.0),
        laws="kuaisim",
        kuaisim=cross_session(),
        horizon_days=60,
        day_discount=1.0,
    )


def _at_mean(median_s: float) -> float:
    """Return the location of engaged views whose median at the mean log-odds is this."""
    return float(np.log(median_s) - Rates().watch_u * _logit(DAILY_ENGAGED))


def _logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))


def _watched(draft: Preset, n: int) -> ImpressionTable:
    """Return views drawn from a draft's mixture, without other events."""
    rng = np.random.default_rng(1)
    rates, uploads = draft.rates, draft.uploads
    drawn_s = np.exp(uploads.log_duration_mu + uploads.log_duration_sd * rng.standard_normal(n))
    duration_s = np.clip(drawn_s, uploads.least_s, uploads.most_s)
    nothing = np.zeros(n)
    drawn = answer(
        rates,
        np.full(n, _logit(DAILY_ENGAGED)),
        item_terms(rates, duration_s, nothing, nothing),
        nothing,
        list(rng.random((N_UNIFORMS, n))),
        rng.standard_normal(n),
    )
    number = np.arange(n)
    never = np.zeros(n, dtype=np.bool_)
    return ImpressionTable(
        user=number,
        item=number,
        at_ms=number,
        surface=np.zeros(n, dtype=np.int64),
        play_s=np.asarray(drawn.watch_s),
        duration_s=duration_s,
        like=never,
        comment=never,
        share=never,
        follow=never,
        not_interested=never,
    )


def _with_events(watched: LogStatistics) -> LogStatistics:
    """Return statistics with KuaiRand's rates of rare events, with and without a valid play."""
    valid = watched.rates["valid_play"]
    source = KUAIRAND_RATES["valid_play"]
    rates, joint = dict(watched.rates), dict(watched.joint)
    for name in RARE:
        with_play = KUAIRAND_JOINT[f"{name}|valid_play"]
        without = max(KUAIRAND_RATES[name] - source * with_play, 0.0) / (1.0 - source)
        joint[f"{name}|valid_play"] = with_play
        rates[name] = valid * with_play + (1.0 - valid) * without
    for pair in ("like|long_view", "comment|like", "share|like", "follow|like"):
        joint[pair] = KUAIRAND_JOINT[pair]
    return replace(watched, rates=rates, joint=joint)
