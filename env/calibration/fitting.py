"""Fits a `ResponseModel` to imported impressions: latent engagement with crossed random effects.

Engagement is not logged, so EM over the watch-time mixture gives soft labels, and penalised Newton
steps move the blocks of coefficients. The slopes are not causal, since the log's cards were
targeted.

Method, assumptions, measurements and rejected alternatives: `docs/decisions/world-fitting.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from env.arrays.reals import logistic, normal_tail
from env.calibration.random_effects import Block, CommonBlock, GroupBlock, PersonBlock, UnitBlock
from env.columns.scales import MEAN_BAIT
from env.columns.schema import CONTENT_DIM, VECTOR_DIM
from env.items.content import vector
from env.vocabulary import Bools, Float32s, Floats, Ints, Item, ItemId, Profile, UserId
from env.world.answers import (
    BAIT_IN_DISLIKE,
    COMMENT_IF_LIKED,
    Rates,
    chances,
    item_terms,
    log_duration,
)
from env.world.impressions import ImpressionTable
from env.world.responses import (
    Cohorts,
    FittedItems,
    FittedPeople,
    Posteriors,
    Priors,
    ResponseModel,
    with_constant,
)

GUESS_WORTH = 500.0
N_NODES = 7
N_BISECTIONS = 30


@dataclass(frozen=True, slots=True)
class Expected:
    """Per-impression quantities of the fit, as columns."""

    engaged: Floats  # (n,) P(E | watch time)
    u: Floats  # (n,) log-odds of E
    affinity: Floats  # (n,) common and cohort part
    quality: Floats  # (n,) log-odds, of the item


def fit_events(shown: ImpressionTable, expected: Expected, priors: Priors, rates: Rates) -> Rates:
    """Return the rates with those of likes, comments, shares, follows and dislikes replaced.

    The columns of `expected` are of the same n impressions; the slopes of the like are kept.
    """
    engaged = expected.engaged
    skipped = 1.0 - engaged
    liked, unliked = 1.0 * shown.like, 1.0 * ~shown.like
    commentable = engaged * (1.0 + (COMMENT_IF_LIKED - 1.0) * liked)
    everything = np.full(len(shown), float(np.exp(BAIT_IN_DISLIKE * MEAN_BAIT)))
    return msgspec.structs.replace(
        rates,
        like=_like_intercept(shown, expected, priors, rates),
        like_skipped=_rate(shown.like, skipped, skipped, rates.like_skipped),
        comment=_rate(shown.comment, engaged, commentable, rates.comment),
        comment_skipped=_rate(shown.comment, skipped, skipped, rates.comment_skipped),
        share=_rate(shown.share, engaged, engaged, rates.share),
        share_skipped=_rate(shown.share, skipped, skipped, rates.share_skipped),
        follow_liked=_rate(shown.follow, engaged * liked, engaged * liked, rates.follow_liked),
        follow=_rate(shown.follow, engaged * unliked, engaged * unliked, rates.follow),
        follow_skipped=_rate(shown.follow, skipped, skipped, rates.follow_skipped),
        not_interested=_rate(
            shown.not_interested, np.ones(len(shown)), everything, rates.not_interested
        ),
    )


def _rate(event: Bools, weight: Floats, exposure: Floats, guess: float) -> float:
    return float((np.sum(weight[event]) + GUESS_WORTH * guess) / (np.sum(exposure) + GUESS_WORTH))


def _like_intercept(
    shown: ImpressionTable, expected: Expected, priors: Priors, rates: Rates
) -> float:
    guess = float(np.asarray(logistic(rates.like)))
    likes = float(np.sum(expected.engaged[shown.like])) + GUESS_WORTH * guess
    nodes, weights = np.polynomial.hermite_e.hermegauss(N_NODES)
    own = priors.taste_sd * nodes[:, None]  # (N_NODES, 1)
    engages = (weights / weights.sum())[:, None] * logistic(expected.u + own)
    engages *= np.sum(expected.engaged) / np.sum(engages)
    slopes = (
        rates.like_affinity * (expected.affinity + own) / priors.affinity_sd
        + rates.like_quality * expected.quality
    )
    low, high = -12.0, 4.0
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        found = np.sum(engages * logistic(middle + slopes)) + GUESS_WORTH * logistic(middle)
        low, high = (middle, high) if found < likes else (low, middle)
    return 0.5 * (low + high)


LOOPED = 1.05
_ROOT_TAU = float(np.sqrt(2.0 * np.pi))
_LEAST_SD = 0.1


@dataclass(frozen=True, slots=True)
class Views:
    """Watch times prepared for the mixture, columns over n impressions."""

    log_s: Floats  # (n,) ln seconds, at the cap where capped; 0 where immediate
    length: Floats  # (n,) ln duration around its centre, 0 where unknown
    immediate: Bools  # (n,) played 0 s
    ended: Bools  # (n,) played to the end or beyond
    looped: Bools  # (n,)

    @staticmethod
    def of(impressions: ImpressionTable) -> "Views":
        """Return the views of these impressions."""
        play_s, duration_s = impressions.play_s, impressions.duration_s
        known = duration_s > 0.0
        ended = known & (play_s >= duration_s)
        looped = known & (play_s > LOOPED * duration_s)
        immediate = play_s <= 0.0
        cut = np.where(ended & ~looped, duration_s, play_s)
        return Views(
            log_s=np.log(np.where(immediate, 1.0, cut)),
            length=log_duration(duration_s),
            immediate=immediate,
            ended=ended,
            looped=looped,
        )


def engagement(views: Views, rates: Rates, u: Floats) -> Floats:
    """Return P(E | watch time), shape (n,): the E step.

    `u`, shape (n,), is the log-odds of E before the watch time is known.
    """
    mu = rates.watch_mu + rates.watch_u * u + rates.watch_duration * views.length
    watched = (views.log_s - mu) / rates.watch_sd
    skipped = (views.log_s - rates.skip_mu) / rates.skip_sd
    capped = views.ended & ~views.looped
    engaged = np.where(
        capped,
        (1.0 - rates.loop) * normal_tail(watched),
        np.where(views.looped, rates.loop, 1.0) * _density(watched, rates.watch_sd),
    )
    skip = np.where(capped, normal_tail(skipped), _density(skipped, rates.skip_sd))
    skip = np.where(views.looped, 0.0, (1.0 - rates.zero) * skip)
    odds = np.exp(u) * engaged
    return np.where(views.immediate, 0.0, odds / np.maximum(odds + skip, 1e-300))


def fit_watch(views: Views, rates: Rates, u: Floats, engaged: Floats) -> Rates:
    """Return the rates with the mixture's parameters moved: the M step.

    `u` is the log-odds of E, `engaged` P(E | watch time), shapes (n,).
    """
    skipped = 1.0 - engaged
    capped = views.ended & ~views.looped
    skip_mu, skip_sd = _fit_skip(views, rates, skipped * ~views.immediate, capped)
    mu = rates.watch_mu + rates.watch_u * u + rates.watch_duration * views.length
    mean, variance = _completed(views.log_s, mu, rates.watch_sd, capped)
    design = np.column_stack([np.ones(len(u)), views.length])
    weighted = design.T * engaged
    slopes = np.linalg.solve(
        weighted @ design + np.diag([0.0, 1.0]), weighted @ (mean - rates.watch_u * u)
    )
    miss = mean - rates.watch_u * u - design @ slopes
    square = np.sum(engaged * (miss**2 + variance))
    return msgspec.structs.replace(
        rates,
        zero=float(np.sum(skipped[views.immediate]) / max(np.sum(skipped), 1e-9)),
        skip_mu=skip_mu,
        skip_sd=skip_sd,
        watch_mu=float(slopes[0]),
        watch_duration=float(slopes[1]),
        watch_sd=max(float(np.sqrt(square / max(np.sum(engaged), 1e-9))), _LEAST_SD),
        loop=float(np.sum(engaged[views.looped]) / max(np.sum(engaged[views.ended]), 1e-9)),
    )


def _fit_skip(views: Views, rates: Rates, weight: Floats, capped: Bools) -> tuple[float, float]:
    total = max(float(np.sum(weight)), 1e-9)
    mean, variance = _completed(
        views.log_s, np.full(len(weight), rates.skip_mu), rates.skip_sd, capped
    )
    mu = float(np.sum(weight * mean) / total)
    square = float(np.sum(weight * ((mean - mu) ** 2 + variance)) / total)
    return mu, max(float(np.sqrt(square)), _LEAST_SD)


def _completed(log_s: Floats, mu: Floats, sd: float, capped: Bools) -> tuple[Floats, Floats]:
    """Return mean and variance of ln seconds without the cap, given the observed view."""
    z = np.clip((log_s - mu) / sd, -8.0, 4.0)
    hazard = np.exp(-0.5 * z * z) / (_ROOT_TAU * normal_tail(z))
    mean = np.where(capped, mu + sd * hazard, log_s)
    variance = np.where(capped, sd**2 * (1.0 + z * hazard - hazard**2), 0.0)
    return mean, np.maximum(variance, 0.0)


def _density(z: Floats, sd: float) -> Floats:
    return np.exp(-0.5 * z * z) / (_ROOT_TAU * sd)


N_SWEEPS = 12
LEAST_IMPRESSIONS = 100
LEAST_INFORMATION = 0.1
People = Sequence[tuple[UserId, Profile]]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Impressions ordered by user, with the columns that the blocks need."""

    shown: ImpressionTable
    item_names: tuple[ItemId, ...]  # the items that occur
    user_ids: tuple[UserId, ...]  # the users that occur
    item: Ints  # (n,) index into item_names
    user: Ints  # (n,) index into user_ids, ascending
    vectors: Float32s  # (n_items, VECTOR_DIM)
    cohort_names: tuple[str, ...]
    cohort: Ints  # (n,)
    same_language: Floats  # (n,) 0 or 1


def fit(
    impressions: ImpressionTable, items: Sequence[Item], users: People, taste_sd: float = 0.5
) -> ResponseModel:
    """Fit the answer model to the impressions of a full screen.

    Args:
        impressions: of these items and users.
        items: imported items.
        users: imported users.
        taste_sd: standard deviation of a user's own affinity to a unit vector: assumed.

    Raises:
        ValueError: fewer than 100 impressions of a full screen.
    """
    rows = _arrange(impressions.on_full_screen(), items, users)
    views = Views.of(rows.shown)
    start = Priors(effect_sd=0.4, lean_sd=0.5, taste_sd=taste_sd)
    blocks = _make_blocks(rows, start)
    moves: tuple[Block, ...] = blocks
    parts = [np.zeros(len(rows.shown)) for _ in moves]
    rates = Rates()
    offset = rates.language * rows.same_language
    u = offset
    engaged = engagement(views, rates, u)
    for _ in range(N_SWEEPS):
        for k, block in enumerate(moves):
            w, z = _working(engaged, offset + np.sum(parts, axis=0), parts[k])
            parts[k] = block.move(w, z)
        u = offset + np.sum(parts, axis=0)
        rates = fit_watch(views, rates, u, engaged)
        engaged = engagement(views, rates, u)
    w, z = _working(engaged, offset + np.sum(parts, axis=0), parts[3])
    return _to_model(rows, blocks, rates, engaged, u, w, z)


def holdout_auc(
    model: ResponseModel, impressions: ImpressionTable, items: Sequence[Item], users: People
) -> float:
    """Return the AUC of valid plays on held-out impressions of a full screen."""
    shown = impressions.on_full_screen()
    return auc(shown.valid_play(), predict_valid_play(model, shown, items, users))


def predict_valid_play(
    model: ResponseModel, shown: ImpressionTable, items: Sequence[Item], users: People
) -> Floats:
    """Return the probability of a valid play of each impression, by posterior means, (n,)."""
    posteriors = Posteriors(model)
    item_ids, item = np.unique(shown.item, return_inverse=True)
    user_ids, user = np.unique(shown.user, return_inverse=True)
    effects = np.array([posteriors.item_effect(items[k].item_id)[0] for k in item_ids])
    vectors = with_constant(_vectors(items, item_ids))
    tastes = np.array(
        [posteriors.user_effect(users[k][0], users[k][1].cohort)[0] for k in user_ids]
    )
    personal = np.einsum("ij,ij->i", vectors[item], tastes[user])
    duration_s = np.array([items[k].duration_s or 0.0 for k in item_ids])
    language = model.rates.language * _same_language(shown, items, users)
    u = personal + (model.appeal(duration_s) + effects)[item] + language
    zeros = np.zeros(len(u))
    terms = item_terms(model.rates, duration_s[item], zeros, zeros)
    valid = chances(model.rates, u, terms, zeros)
    return np.asarray(valid.valid_play)


def auc(positive: Bools, score: Floats) -> float:
    """Return the area under the ROC curve; ties count half.

    >>> auc(np.array([True, False, True]), np.array([0.9, 0.1, 0.1]))
    0.75

    Raises:
        ValueError: not both outcomes occur.
    """
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        raise ValueError("expected both outcomes, got one: nothing to rank")
    _, place, n_tied = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n_tied) - (n_tied - 1) / 2.0)[place]
    above = float(rank[positive].sum()) - n_positive * (n_positive + 1) / 2.0
    return above / (n_positive * n_negative)


def _arrange(shown: ImpressionTable, items: Sequence[Item], users: People) -> _Rows:
    if len(shown) < LEAST_IMPRESSIONS:
        raise ValueError(
            f"expected at least {LEAST_IMPRESSIONS} impressions of a full screen to fit on, "
            f"got {len(shown)}"
        )
    shown = shown.take(np.lexsort((shown.at_ms, shown.user)))
    item_ids, item = np.unique(shown.item, return_inverse=True)
    user_ids, user = np.unique(shown.user, return_inverse=True)
    cohorts = [users[k][1].cohort for k in user_ids]
    names = tuple(sorted(set(cohorts)))
    code = np.array([names.index(name) for name in cohorts], dtype=np.int64)
    return _Rows(
        shown=shown,
        item_names=tuple(items[k].item_id for k in item_ids),
        user_ids=tuple(users[k][0] for k in user_ids),
        item=item,
        user=user,
        vectors=_vectors(items, item_ids),
        cohort_names=names,
        cohort=code[user],
        same_language=_same_language(shown, items, users),
    )


def _make_blocks(
    rows: _Rows, start: Priors
) -> tuple[CommonBlock, GroupBlock, UnitBlock, PersonBlock]:
    shown, vectors = rows.shown, rows.vectors[rows.item].astype(np.float64)
    length = log_duration(shown.duration_s)
    surfaces, n_shown = np.unique(shown.surface, return_counts=True)
    others = np.delete(surfaces, np.argmax(n_shown))
    common = np.column_stack(
        [np.ones(len(shown)), length, length**2, shown.duration_s <= 0.0, vectors]
        + [shown.surface == surface for surface in others]
    ).astype(np.float64)
    prior_sd = np.r_[100.0, 3.0, 3.0, 3.0, np.ones(VECTOR_DIM), np.full(len(others), 3.0)]
    return (
        CommonBlock(common, prior_sd),
        GroupBlock(
            np.column_stack([np.ones(len(shown)), vectors]),
            rows.cohort,
            len(rows.cohort_names),
            np.full(1 + VECTOR_DIM, 0.2),
        ),
        UnitBlock(rows.item, len(rows.item_names), start.effect_sd),
        PersonBlock(vectors, rows.user, start.lean_sd, start.taste_sd),
    )


def _working(engaged: Floats, eta: Floats, part: Floats) -> tuple[Floats, Floats]:
    """Return weights and working response of a block.

    A weight is the observed information p (1 - p) - r (1 - r), with r the soft label (Louis, JRSS B
    1982); p (1 - p) alone would halve the posterior variance.
    """
    p = np.asarray(logistic(eta))
    whole = np.maximum(p * (1.0 - p), 1e-4)
    w = np.maximum(whole - engaged * (1.0 - engaged), LEAST_INFORMATION * whole)
    return w, (engaged - p) / w + part


def _to_model(
    rows: _Rows,
    blocks: tuple[CommonBlock, GroupBlock, UnitBlock, PersonBlock],
    rates: Rates,
    engaged: Floats,
    u: Floats,
    w: Floats,
    z: Floats,
) -> ResponseModel:
    common, cohort, unit, user = blocks
    taste = common.beta[4 : 4 + VECTOR_DIM]
    tastes = taste + cohort.beta[rows.cohort][:, 1:]
    affinity = np.einsum("ij,ij->i", common.design[:, 4 : 4 + VECTOR_DIM], tastes)
    affinity_sd = float(np.hypot(np.std(affinity), user.taste_sd))
    priors = Priors(unit.sd, user.lean_sd, user.taste_sd, affinity_sd)
    expected = Expected(engaged, u, affinity, unit.effect[rows.item])
    users = FittedPeople(
        ids=rows.user_ids,
        starts=np.searchsorted(rows.user, np.arange(len(rows.user_ids) + 1)),
        item=rows.item,
        weight=w,
        response=z,
    )
    return ResponseModel(
        rates=fit_events(rows.shown, expected, priors, rates),
        priors=priors,
        intercept=float(common.beta[0]),
        duration=(float(common.beta[1]), float(common.beta[2]), float(common.beta[3])),
        taste=taste,
        cohorts=Cohorts(rows.cohort_names, cohort.beta[:, 0], cohort.beta[:, 1:]),
        items=FittedItems(rows.item_names, unit.effect, unit.effect_sd, rows.vectors),
        users=users,
    )


def _vectors(items: Sequence[Item], index: Ints) -> Float32s:
    content = np.array([vector(items[k]) for k in index], dtype=np.float32)
    return content.reshape(-1, CONTENT_DIM)[:, :VECTOR_DIM].copy()


def _same_language(shown: ImpressionTable, items: Sequence[Item], users: People) -> Floats:
    spoken = [profile.language for _, profile in users]
    pairs = zip(shown.user.tolist(), shown.item.tolist(), strict=True)
    return np.array([float(spoken[u] == items[i].language != "") for u, i in pairs])
