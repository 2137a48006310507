"""Q-learning from a log over discrete candidates (IQL and CQL), as a module and learners of RLlib.

RLlib's IQL draws from a Gaussian and refuses discrete spaces, and its CQL fails on them. Values are
learned in standard deviations of the log's returns. Losses and targets:
`docs/decisions/offline-training.md`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.evaluation.postprocessing import Postprocessing

from policies.training.layout import Scaling
from policies.training.module import RankerModule
from policies.training.networks import MASKED, Scorer
from policies.training.offline.episodes import TARGETS

QS, V = "qs", "v"


class CandidateValues(RankerModule):
    """Two Q functions over the candidates and a V; `scorer` is the first one's advantages."""

    def setup(self) -> None:
        """Make the networks."""
        super().setup()
        args = self.settings.args
        user = self.settings.user_scaling or Scaling.none(args.n_user)
        item = self.settings.item_scaling or Scaling.none(args.n_item)
        self.twin = Scorer(args, user, item)

    def _forward(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return both Qs, (2, n, K), MASKED off the mask, and V, (n,)."""
        user, rows, mask = self._inputs(batch)
        value, base = self.critic(user, rows, mask).unbind(dim=1)
        qs = base[:, None] + torch.stack([self.scorer(user, rows), self.twin(user, rows)])
        if mask is not None:
            qs = qs.masked_fill(~mask, MASKED)
        return {QS: qs, V: value}

    def advantages(self, user: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the smaller of both Qs' advantages of each candidate, shape (n, K)."""
        return torch.minimum(self.scorer(user, rows), self.twin(user, rows))


class ValuesLearner(TorchLearner):
    """Learns `CandidateValues` from the columns OBS, ACTIONS and VALUE_TARGETS.

    Its config's `learner_config_dict` holds `expectile`, `penalty` and `weight_decay`.
    """

    def configure_optimizers_for_module(self, module_id: Any, config: Any = None) -> None:
        """Add weight decay: a card says little about a candidate, and a log has few cards."""
        parameters = list(self.module[module_id].parameters())
        decay = config.learner_config_dict["weight_decay"]
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.AdamW(parameters, weight_decay=decay),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(
        self, *, module_id: Any, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Return the loss of the values, and the conservative one."""
        settings = config.learner_config_dict
        qs, value = fwd_out[QS], fwd_out[V]
        actions = batch[Columns.ACTIONS].long()[None, :, None].expand(2, -1, 1)
        chosen = qs.gather(2, actions)[..., 0]
        loss = ((batch[Postprocessing.VALUE_TARGETS][None] - chosen) ** 2).sum(dim=0).mean()
        loss = loss + expectile_loss(
            chosen.min(dim=0).values.detach() - value, settings["expectile"]
        )
        if settings["penalty"]:
            gap = torch.logsumexp(qs, dim=2) - chosen
            loss = loss + settings["penalty"] * gap.sum(dim=0).mean()
        return loss


class PolicyLearner(TorchLearner):
    """Fits `RankerModule`'s scorer to the pmfs in the column TARGETS by cross-entropy.

    It is the advantage-weighted regression of IQL with every candidate's weight, not only the
    logged one's, so the draw adds no noise.
    """

    def compute_loss_for_module(
        self, *, module_id: Any, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Return the cross-entropy."""
        logp = torch.log_softmax(fwd_out[Columns.ACTION_DIST_INPUTS], dim=1)
        return -(batch[TARGETS] * logp).sum(dim=1).mean()


def expectile_loss(difference: torch.Tensor, expectile: float) -> torch.Tensor:
    """Return mean |expectile - [u < 0]| u^2, least at the expectile.

    >>> float(expectile_loss(torch.tensor([1.0, -1.0]), 0.75))
    0.5
    """
    weight = torch.where(difference < 0.0, 1.0 - expectile, expectile)
    return (weight * difference**2).mean()
