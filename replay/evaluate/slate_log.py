"""Pages of our own log as Slates, with a target policy's pmfs and a model's predictions.

The logged rules, floor and prefix apply (`env.interface.page_pmfs`). A page's reward is that of its
seen, uncensored cards; others count 0, so a policy that makes users leave a page early is charged
for it. Pages without a seen card are excluded.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from env.interface import Policy, page_pmfs
from env.vocabulary import Floats, Ints, Page
from replay.estimators.slates import SlatePredictions, Slates
from replay.reward_models.ridge import Predictor
from replay.source import Batch


class _Row(NamedTuple):
    user: int
    reward: Floats
    propensity: Floats
    target: Floats
    chosen: Floats
    direct: Floats


def read_slates(
    batches: Iterable[Batch], policy: Policy, predictor: Predictor
) -> tuple[Slates, SlatePredictions]:
    """Return the log's pages for a target policy.

    Q_j(a) is the model's reward of card a plus, for each later slot, the expected reward of the
    target's choice at slot j: a guess at the rest of the page that ignores later cards.

    Args:
        predictor: predicts a card's reward; not fitted on the users it scores.

    Raises:
        ValueError: no page, or decisions without pages, as in an external log.
    """
    rows = [
        _row(batch, page, at, policy, predictor) for batch in batches for page, at in _pages(batch)
    ]
    if not rows:
        raise ValueError("expected a log with pages, got none")
    slates = Slates(
        user=np.array([row.user for row in rows]),
        reward=_padded([row.reward for row in rows], 0.0),
        propensity=_padded([row.propensity for row in rows], 1.0),
        target=_padded([row.target for row in rows], 1.0),
    )
    chosen = _padded([row.chosen for row in rows], 0.0)
    return slates, SlatePredictions(chosen, _padded([row.direct for row in rows], 0.0))


def _pages(batch: Batch) -> Iterable[tuple[Page, Ints]]:
    if len(batch) and not batch.pages:
        raise ValueError(
            "whole pages need a log that says which decisions were one, got decisions without a "
            "page; evaluate a foreign log decision by decision"
        )
    return batch.pages


def _row(batch: Batch, page: Page, at: Ints, policy: Policy, predictor: Predictor) -> _Row:
    """Return a page's slots with the rewards of its rows `at`."""
    rewards = dict(zip(batch.slot[at].tolist(), batch.reward[at].tolist(), strict=True))
    expected = predictor.predict(page.context)
    pairs = list(page_pmfs(page, policy))
    actions = [decision.action for decision, _ in pairs]
    here = np.array([float(pmf @ expected) for _, pmf in pairs])
    below = np.arange(len(pairs))[::-1]
    return _Row(
        user=int(batch.user[at[0]]),
        reward=np.array([rewards.get(decision.slot, 0.0) for decision, _ in pairs]),
        propensity=np.array([decision.propensity for decision, _ in pairs]),
        target=np.array([float(pmf[decision.action]) for decision, pmf in pairs]),
        chosen=expected[actions] + below * here,
        direct=(1 + below) * here,
    )


def _padded(rows: list[Floats], fill: float) -> Floats:
    padded = np.full((len(rows), max(map(len, rows))), fill)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
