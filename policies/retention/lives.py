"""RLlib's runner of environments, whose checkpoint holds the lives that it is in the middle of.

RLlib saves a runner without its environment: a training that is resumed begins new lives, all on
their first day, and for some weeks of theirs sees newcomers only. With the environment, the
fragments and the observation in hand, it goes on with the same cards instead.
"""

import pickle
from typing import Any

from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

SEEDS_APART = 2**20
"""More than the people of an environment."""
_LIVES = "lives"
_HELD = ("env", "_ongoing_episodes", "_cached_to_module", "_needs_initial_reset")


class LivesRunner(SingleAgentEnvRunner):
    """A runner that can be put down and taken up again between two samples."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        """Make the environment and the module.

        RLlib seeds runner k with the seed plus k, and person i of an environment has its seed plus
        i: all runners would play the same people, so they are set apart.
        """
        super().__init__(config=config, **kwargs)
        if self._seed is not None:
            self._seed += (self.worker_index or 0) * SEEDS_APART

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return RLlib's own state, and the lives where all of it is asked for."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if components is None and self.env is not None:
            state[_LIVES] = pickle.dumps([getattr(self, name) for name in _HELD])
        return dict(state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state, and its lives if it has some."""
        super().set_state(state)
        if _LIVES in state:
            # Written by get_state into the training's own folder, which holds pickles anyway.
            for name, value in zip(_HELD, pickle.loads(state[_LIVES]), strict=True):  # noqa: S301
                setattr(self, name, value)
