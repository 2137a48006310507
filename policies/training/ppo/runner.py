"""An RLlib environment runner whose checkpoint contains its unfinished lives.

RLlib saves a runner without its environment, so a resumed training would start new lives and see
only new users for some weeks. With the environment, the fragments and the current observation it
continues with the same cards.
"""

import pickle
from typing import Any

from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

SEEDS_APART = 2**20
"""Distance between the runners' seeds, larger than the number of users of an environment."""

_LIVES = "lives"
_HELD = ("env", "_ongoing_episodes", "_cached_to_module", "_needs_initial_reset")


class LivesRunner(SingleAgentEnvRunner):
    """A runner that can be saved and restored between two samples."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        """Make the environment and the module, with seeds far apart.

        RLlib adds k to the seed of runner k, and user i of an environment adds i, so without the
        distance all runners would play the same users.
        """
        super().__init__(config=config, **kwargs)
        if self._seed is not None:
            self._seed += (self.worker_index or 0) * SEEDS_APART

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return RLlib's own state, and the lives if all of the state is requested."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if components is None and self.env is not None:
            state[_LIVES] = pickle.dumps([getattr(self, name) for name in _HELD])
        return dict(state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Load a state, and its lives if it has some."""
        super().set_state(state)
        if _LIVES in state:
            # Written by get_state into the training's own folder, which holds pickles anyway.
            for name, value in zip(_HELD, pickle.loads(state[_LIVES]), strict=True):  # noqa: S301
                setattr(self, name, value)
