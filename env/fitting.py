"""Fits a `ResponseModel` to imported impressions: latent engagement with crossed random effects.

Engagement is not logged, so EM over the watch-time mixture gives soft labels, and penalised Newton
steps move the blocks of coefficients. The slopes are not causal, since the log's cards were
targeted.

Method, assumptions, measurements and rejected alternatives: `docs/decisions/world-fitting.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from env.answers import Rates, item_terms, log_duration
from env.chances import chances
from env.content import vector
from env.event_rates import Expected, fit_events
from env.features import VECTOR_DIM
from env.impressions import Impressions
from env.mixture import Views, engagement, fit_watch
from env.random_effects import Block, CommonBlock, GroupBlock, PersonBlock, UnitBlock
from env.reals import logistic
from env.responses import (
    Cohorts,
    FittedItems,
    FittedPeople,
    Posteriors,
    Priors,
    ResponseModel,
    with_constant,
)
from env.vocabulary import Bools, Float32s, Floats, Ints, Item, ItemId, Profile, UserId

N_SWEEPS = 12
LEAST_IMPRESSIONS = 100
LEAST_INFORMATION = 0.1

People = Sequence[tuple[UserId, Profile]]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Impressions ordered by user, with the columns that the blocks need."""

    shown: Impressions
    item_names: tuple[ItemId, ...]  # the items that occur
    user_ids: tuple[UserId, ...]  # the users that occur
    item: Ints  # (n,) index into item_names
    person: Ints  # (n,) index into user_ids, ascending
    vectors: Float32s  # (n_items, VECTOR_DIM)
    cohort_names: tuple[str, ...]
    cohort: Ints  # (n,)
    same_language: Floats  # (n,) 0 or 1


def fit(
    impressions: Impressions, items: Sequence[Item], people: People, taste_sd: float = 0.5
) -> ResponseModel:
    """Fit the answer model to the impressions of a full screen.

    Args:
        impressions: of these items and users.
        items: imported items.
        people: imported users.
        taste_sd: standard deviation of a user's own affinity to a unit vector: assumed.

    Raises:
        ValueError: fewer than 100 impressions of a full screen.
    """
    rows = _arrange(impressions.on_full_screen(), items, people)
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
    model: ResponseModel, impressions: Impressions, items: Sequence[Item], people: People
) -> float:
    """Return the AUC of valid plays on held-out impressions of a full screen."""
    shown = impressions.on_full_screen()
    return auc(shown.valid_play(), predict_valid_play(model, shown, items, people))


def predict_valid_play(
    model: ResponseModel, shown: Impressions, items: Sequence[Item], people: People
) -> Floats:
    """Return the probability of a valid play of each impression, by posterior means, (n,)."""
    posteriors = Posteriors(model)
    item_ids, item = np.unique(shown.item, return_inverse=True)
    person_ids, person = np.unique(shown.user, return_inverse=True)
    effects = np.array([posteriors.item_effect(items[k].item_id)[0] for k in item_ids])
    vectors = with_constant(_vectors(items, item_ids))
    tastes = np.array(
        [posteriors.person_effect(people[k][0], people[k][1].cohort)[0] for k in person_ids]
    )
    personal = np.einsum("ij,ij->i", vectors[item], tastes[person])
    duration_s = np.array([items[k].duration_s or 0.0 for k in item_ids])
    language = model.rates.language * _same_language(shown, items, people)
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


def _arrange(shown: Impressions, items: Sequence[Item], people: People) -> _Rows:
    if len(shown) < LEAST_IMPRESSIONS:
        raise ValueError(
            f"expected at least {LEAST_IMPRESSIONS} impressions of a full screen to fit on, "
            f"got {len(shown)}"
        )
    shown = shown.take(np.lexsort((shown.at_ms, shown.user)))
    item_ids, item = np.unique(shown.item, return_inverse=True)
    person_ids, person = np.unique(shown.user, return_inverse=True)
    cohorts = [people[k][1].cohort for k in person_ids]
    names = tuple(sorted(set(cohorts)))
    code = np.array([names.index(name) for name in cohorts], dtype=np.int64)
    return _Rows(
        shown=shown,
        item_names=tuple(items[k].item_id for k in item_ids),
        user_ids=tuple(people[k][0] for k in person_ids),
        item=item,
        person=person,
        vectors=_vectors(items, item_ids),
        cohort_names=names,
        cohort=code[person],
        same_language=_same_language(shown, items, people),
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
        PersonBlock(vectors, rows.person, start.lean_sd, start.taste_sd),
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
    common, cohort, unit, person = blocks
    taste = common.beta[4 : 4 + VECTOR_DIM]
    tastes = taste + cohort.beta[rows.cohort][:, 1:]
    affinity = np.einsum("ij,ij->i", common.design[:, 4 : 4 + VECTOR_DIM], tastes)
    affinity_sd = float(np.hypot(np.std(affinity), person.taste_sd))
    priors = Priors(unit.sd, person.lean_sd, person.taste_sd, affinity_sd)
    expected = Expected(engaged, u, affinity, unit.effect[rows.item])
    people = FittedPeople(
        ids=rows.user_ids,
        starts=np.searchsorted(rows.person, np.arange(len(rows.user_ids) + 1)),
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
        people=people,
    )


def _vectors(items: Sequence[Item], index: Ints) -> Float32s:
    return np.array([vector(items[k]) for k in index], dtype=np.float32).reshape(-1, VECTOR_DIM)


def _same_language(shown: Impressions, items: Sequence[Item], people: People) -> Floats:
    spoken = [profile.language for _, profile in people]
    pairs = zip(shown.user.tolist(), shown.item.tolist(), strict=True)
    return np.array([float(spoken[u] == items[i].language != "") for u, i in pairs])
