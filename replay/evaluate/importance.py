"""Permutation importance of features on a log, for the reward and for each policy.

For the reward it is the growth of the cross-fitted model's squared error when a feature is
permuted; for a policy, the total variation by which the pmf of the page's first card moves. Rows of
a thinned log count by their row weight. Formulas, limits and rejected alternatives:
`docs/decisions/feature-importance.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np

from env.columns.schema import COLUMNS, DYNAMIC, N_ACTION, N_SHARED, SHARED, STATIC
from env.interface import Policy, page_pmfs
from env.vocabulary import Float32s, Floats, Ints, Page
from replay.estimators.intervals import LEVEL, clustered_se, t_quantile
from replay.evaluate.targets import external_policy_code, row_pages
from replay.reward_models.batch_models import chosen_features, fit_ridges, folds_of
from replay.source import Batch, Source

N_DECISIONS = 20_000
N_PAGES = 300
N_DEALS = 5
"""Permutations of each feature, over which the result is averaged."""

_TOGETHER = {column.name: column.family for column in COLUMNS.values() if column.family}


class FeatureImportance(msgspec.Struct, frozen=True):
    """The importance of a feature, with its interval."""

    feature: str  # its name, or that of several columns of one meaning
    of: str  # "context" or "item"
    value: float  # at least 0 in expectation; see the module
    low: float  # lower end of the interval, clustered by user
    high: float  # upper end


class Importance(msgspec.Struct, frozen=True):
    """Features by importance, the largest first."""

    reward: tuple[FeatureImportance, ...]  # growth of the squared error, in variances
    policies: dict[str, tuple[FeatureImportance, ...]]  # total variation, by policy


class _Group(NamedTuple):
    feature: str
    of: str
    columns: Ints  # of the shared features, or of the action features


def importance(
    source: Source, policies: Sequence[Policy], seed: int = 0, n_decisions: int = N_DECISIONS
) -> Importance:
    """Return the importance of a log's features for the reward and for each policy.

    Args:
        source: its batches have pages, or features of the candidates.
        seed: seed of the sample and of the permutations.
        n_decisions: largest number of decisions, sampled from all.

    Raises:
        ValueError: the log has no features or decisions of one user only, or a policy's code fails.
    """
    rng = np.random.default_rng(seed)
    pages, counts = _sample_pages(source, rng)
    shared, actions = pages[0].context.features.shared, pages[0].context.features.actions
    groups = _groups(len(shared), actions.shape[1])
    if not groups:
        raise ValueError("importance needs a log with features, got one without")
    return Importance(
        reward=_of_reward(source, groups, len(shared), rng, n_decisions),
        policies={
            policy.name: _of_policy(policy, pages, counts, groups, rng) for policy in policies
        },
    )


class _Sample(NamedTuple):
    """A sample of a log's decisions: those with the smallest random keys."""

    key: Floats  # (n,)
    features: Floats  # (n, d + e)
    reward: Floats  # (n,)
    user: Ints  # (n,)
    fold: Ints  # (n,)
    counts: Floats  # (n,) decisions that each stands for

    def smallest(self, n: int) -> "_Sample":
        kept = np.argsort(self.key, kind="stable")[:n]
        return _Sample(
            self.key[kept],
            self.features[kept],
            self.reward[kept],
            self.user[kept],
            self.fold[kept],
            self.counts[kept],
        )

    def joined(self, other: "_Sample") -> "_Sample":
        return _Sample(
            np.concatenate([self.key, other.key]),
            np.concatenate([self.features, other.features]),
            np.concatenate([self.reward, other.reward]),
            np.concatenate([self.user, other.user]),
            np.concatenate([self.fold, other.fold]),
            np.concatenate([self.counts, other.counts]),
        )


def _of_reward(
    source: Source, groups: Sequence[_Group], n_shared: int, rng: np.random.Generator, n: int
) -> tuple[FeatureImportance, ...]:
    model, sample = fit_ridges(source), _sample(source, rng, n)
    errors = (sample.reward - model.predict_rows(sample.features, sample.fold)) ** 2
    mean = np.average(sample.reward, weights=sample.counts)
    squares = np.average((sample.reward - mean) ** 2, weights=sample.counts)
    variance = max(float(squares), float(np.finfo(float).tiny))
    found = []
    for group in groups:
        columns = group.columns + (n_shared if group.of == "item" else 0)
        growth = np.zeros(len(errors))
        for _ in range(N_DEALS):
            dealt = sample.features.copy()
            dealt[:, columns] = sample.features[rng.permutation(len(dealt))][:, columns]
            again = (sample.reward - model.predict_rows(dealt, sample.fold)) ** 2
            growth += (again - errors) / (N_DEALS * variance)
        found.append(_measured(group, growth, sample.user, sample.counts))
    return _sorted(found)


def _sample(source: Source, rng: np.random.Generator, n: int) -> _Sample:
    sample: _Sample | None = None
    for batch in source.batches():
        columns = chosen_features(batch), batch.reward, batch.user, folds_of(batch)
        drawn = _Sample(rng.random(len(batch)), *columns, _counts_of(batch))
        sample = (drawn if sample is None else sample.joined(drawn)).smallest(n)
    if sample is None:
        raise ValueError("importance needs decisions, got none")
    return sample


def _sample_pages(source: Source, rng: np.random.Generator) -> tuple[list[Page], Floats]:
    """Return a sample of a log's pages and their row weights, shape (n,).

    For an external log these are its first decisions, as pages.
    """
    held: list[tuple[float, int, Page]] = []
    for batch in source.batches():
        if not batch.pages:
            first = [page for page, _ in islice(row_pages(batch), N_PAGES)]
            return first, _counts_of(batch)[: len(first)]
        keys = rng.random(len(batch.pages)).tolist()
        held += [
            (key, len(held) + i, page)
            for i, (key, (page, _)) in enumerate(zip(keys, batch.pages, strict=True))
        ]
        held = sorted(held)[:N_PAGES]
    if not held:
        raise ValueError("importance needs decisions, got none")
    return [page for _, _, page in held], np.ones(len(held))


def _of_policy(
    policy: Policy,
    pages: Sequence[Page],
    counts: Floats,
    groups: Sequence[_Group],
    rng: np.random.Generator,
) -> tuple[FeatureImportance, ...]:
    before = [_first_pmf(policy, page) for page in pages]
    names = {user: code for code, user in enumerate(dict.fromkeys(p.context.user for p in pages))}
    user = np.array([names[page.context.user] for page in pages], dtype=np.int64)
    by_id = _Group("item itself", "item", np.zeros(0, dtype=np.int64))
    found = []
    for group in (*groups, by_id):
        moved = [
            0.5 * float(np.abs(_first_pmf(policy, dealt) - pmf).sum())
            for dealt, pmf in zip(_dealt(pages, group, rng), before, strict=True)
        ]
        found.append(_measured(group, np.array(moved), user, counts))
    return _sorted(found)


def _dealt(pages: Sequence[Page], group: _Group, rng: np.random.Generator) -> Iterator[Page]:
    others = rng.permutation(len(pages))
    for page, other in zip(pages, others, strict=True):
        features = page.context.features
        shared: Float32s = features.shared.copy()
        actions, keys = features.actions.copy(), features.keys
        order = rng.permutation(len(keys))
        if group.of == "context":
            shared[group.columns] = pages[other].context.features.shared[group.columns]
        elif len(group.columns):
            actions[:, group.columns] = features.actions[order][:, group.columns]
        else:
            keys = keys[order]
        changed = replace(features, shared=shared, actions=actions, keys=keys)
        yield replace(page, context=replace(page.context, features=changed))


def _first_pmf(policy: Policy, page: Page) -> Floats:
    with external_policy_code(policy.name):
        return next(page_pmfs(page, policy))[1]


def _counts_of(batch: Batch) -> Floats:
    return np.ones(len(batch)) if batch.row_weight is None else batch.row_weight


def _measured(group: _Group, terms: Floats, user: Ints, counts: Floats) -> FeatureImportance:
    value = float(np.average(terms, weights=counts))
    codes = np.unique(user, return_inverse=True)[1]
    influence = (terms - value) * counts / counts.mean()
    half = t_quantile(LEVEL, int(codes.max())) * clustered_se(influence, codes)
    return FeatureImportance(group.feature, group.of, value, value - half, value + half)


def _sorted(found: list[FeatureImportance]) -> tuple[FeatureImportance, ...]:
    return tuple(sorted(found, key=lambda importance: -importance.value))


def _groups(n_shared: int, n_action: int) -> list[_Group]:
    """Return the columns grouped by meaning: by name in our encoding, else by index."""
    ours = (n_shared, n_action) == (N_SHARED, N_ACTION)
    of_context = SHARED if ours else [f"context {i}" for i in range(n_shared)]
    of_item = (*STATIC, *DYNAMIC) if ours else [f"item {i}" for i in range(n_action)]
    groups = []
    for of, names in (("context", of_context), ("item", of_item)):
        meanings = np.array([_TOGETHER.get(name, name) if ours else name for name in names])
        groups += [
            _Group(meaning, of, np.flatnonzero(meanings == meaning))
            for meaning in dict.fromkeys(meanings.tolist())
        ]
    return groups
