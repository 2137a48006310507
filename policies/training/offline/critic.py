"""Batched evaluation of a ranker and of a value module on logged lives."""

from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from env.pages.lives import Lives
from env.vocabulary import Floats
from policies.explorers import softmax
from policies.ranker.ranker import Ranker
from policies.training.module import RankerModule
from policies.training.offline.episodes import minibatches
from policies.training.offline.expectile import QS, CandidateValues

_MOST_OFFSET = 20.0
_ROWS = 4_096


class OfflineCritic:
    """Values of candidates by a value module, in the reward's own unit."""

    def __init__(self, module: CandidateValues, mean: float, sd: float) -> None:
        """Wrap a module whose values are in standard deviations from a mean."""
        self._module, self._mean, self._sd = module, mean, sd

    def q(self, lives: Lives) -> Floats:
        """Return the value of each candidate at each step, shape (n, K); 0 off the mask."""
        found = np.zeros(lives.mask.shape)
        for rows in minibatches(len(lives), _ROWS):
            seen = _observed(lives, rows)
            with torch.no_grad():
                qs = self._module.forward_inference({Columns.OBS: seen})[QS]
            found[rows] = qs.mean(dim=0).numpy()
        return np.where(lives.mask, self._mean + self._sd * found, 0.0)

    def advantages(self, lives: Lives) -> Floats:
        """Return the smaller of both Qs' advantages of each page's candidates, shape (p, K)."""
        found = np.zeros(lives.rows.shape[:2])
        for pages in minibatches(len(found), _ROWS):
            place = np.arange(pages.start, pages.stop)
            with torch.no_grad():
                found[pages] = self._module.advantages(
                    torch.from_numpy(lives.users(place)), torch.from_numpy(lives.candidates(place))
                ).numpy()
        return self._sd * found


def page_scores(ranker: Ranker, lives: Lives) -> Floats:
    """Return a ranker's logits of each page's candidates, shape (p, K)."""
    found = np.empty(lives.rows.shape[:2])
    for pages in minibatches(len(found), _ROWS):
        place = np.arange(pages.start, pages.stop)
        found[pages] = ranker.batch_scores(lives.users(place), lives.candidates(place))
    return found


def _observed(lives: Lives, rows: slice) -> dict[str, torch.Tensor]:
    pages = lives.page[rows]
    return tensors(
        {
            "user": lives.users(pages),
            "item": lives.candidates(pages),
            "mask": lives.mask[rows].astype(np.int8),
        }
    )


def tensors(observations: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors."""
    return {name: torch.from_numpy(column) for name, column in observations.items()}


def values_of(module: RankerModule, observations: dict[str, Any]) -> Floats:
    """Return a module's values of observations, shape (n,)."""
    found = []
    for rows in minibatches(len(observations["user"]), _ROWS):
        seen = tensors({name: column[rows] for name, column in observations.items()})
        with torch.no_grad():
            found.append(module.compute_values({Columns.OBS: seen}).numpy())
    return np.concatenate(found).astype(np.float64)


def page_pmfs(lives: Lives, scores: Floats) -> Floats:
    """Return the softmax over all candidates of each page, shape (p, K)."""
    there = np.abs(lives.rows).sum(axis=2, dtype=np.float32) > 0.0
    return softmax(np.where(there, scores, -np.inf))


def centred(lives: Lives, scores: Floats, offsets: Floats) -> Floats:
    """Return offsets less their mean under each page's logits, clipped to a large bound."""
    mean = (page_pmfs(lives, scores) * offsets).sum(axis=1, keepdims=True)
    return np.clip(offsets - mean, -_MOST_OFFSET, _MOST_OFFSET)
