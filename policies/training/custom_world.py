"""A world of one's own, by the name MODULE:FUNCTION, in the form that the training needs.

The function takes a number of users and returns a Gymnasium vector environment of one card a step;
`docs/retention.md` says what it has to be. The environment is wrapped: its observation becomes one
row a user, and what its info leaves out is filled in. Gymnasium registers the wrapper when this
module is imported, by each of Ray's workers for itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register, registry
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from env.vocabulary import Bools, Float32s, Floats
from policies.custom.load import load_function, say
from policies.training.layout import ObservationLayout
from policies.training.settings import CustomWorld

ENV_ID = "policies.training.custom_world:nextswipe/CustomWorld-v0"
_PARTS = ("user", "item")
Step = tuple[Float32s, Floats, Bools, Bools, dict[str, Any]]


def name_world(name: str, folder: str = ".") -> CustomWorld:
    """Return the arguments of a world as its code is now.

    Raises:
        ValueError: there is no such function.
    """
    return CustomWorld(name, load_function(name, Path(folder)).code, folder)


def arguments_of(world: CustomWorld) -> dict[str, Any]:
    """Return the arguments of `CustomVectorEnv`, for a process that runs elsewhere."""
    return {"name": world.name, "code": world.code, "folder": str(Path(world.folder).resolve())}


class CustomVectorEnv(VectorEnv[Float32s, Any, Any]):
    """n users of a world of one's own, observed in one row each: user | item | personal.

    Attributes:
        layout: of the row.
    """

    # Gymnasium declares it as an instance variable, so ClassVar is a type error.
    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        *,
        name: str,
        code: str,
        folder: str,
        render_mode: str | None = None,
    ) -> None:
        """Make the world.

        Raises:
            ValueError: it is no world of this form, or its code has changed; the message says what
                was expected.
        """
        self.closed = True  # until there is something that `__del__` could close
        found = load_function(name, Path(folder))
        if found.code != code:
            raise ValueError(f"{name}: expected the code that the training began with, it changed")
        self.num_envs = num_envs
        self._name = name
        self._world = _made(name, found.entry, num_envs)
        self.layout = ObservationLayout.of(self._world.single_observation_space)
        row = spaces.Box(-np.inf, np.inf, (self.layout.n_flat,), np.float32)
        self.single_observation_space = row
        self.observation_space = batch_space(row, num_envs)
        self.single_action_space = self._world.single_action_space
        self.action_space = self._world.action_space
        self.closed = False

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        """Start an episode in every slot."""
        observation, _ = self._world.reset(seed=seed, options=options)
        return self._row(observation), {}

    def step(self, actions: Any) -> Step:
        """Show each user a candidate.

        `info["session_end"]` is True at the end of an episode where the world does not say it, and
        `info["discount"]` 0 where the episode terminated, else 1.

        Raises:
            ValueError: a candidate is masked.
        """
        observation, reward, terminated, truncated, info = self._world.step(actions)
        told = {
            "session_end": _filled(info, "session_end", terminated | truncated),
            "discount": _filled(info, "discount", np.where(terminated, 0.0, 1.0)),
        }
        return self._row(observation), reward, terminated, truncated, told

    def close_extras(self, **kwargs: Any) -> None:
        """Close the world."""
        self._world.close(**kwargs)

    def _row(self, observation: Any) -> Float32s:
        if "mask" in observation and not np.all(observation["mask"]):
            raise ValueError(
                f"{self._name}: expected a mask of ones, got a masked candidate: the training "
                "offers every candidate of a card"
            )
        users, rows, _ = self.layout.arrays({"mask": np.ones(0), **observation})
        n_item = self.layout.n_item
        blocks = (users, rows[..., :n_item], rows[..., n_item:])
        flat = [np.asarray(block, np.float32).reshape(self.num_envs, -1) for block in blocks]
        return np.concatenate(flat, axis=1)


def _filled(info: dict[str, Any], name: str, default: Any) -> Any:
    """Return a column of the info; the default where the world does not say it for a user."""
    if name not in info:
        return default
    return np.where(info.get(f"_{name}", True), info[name], default)


def _made(name: str, entry: Any, num_envs: int) -> "VectorEnv[Any, Any, Any]":
    """Return what a function makes, once it is a world of this form.

    Raises:
        ValueError: it is none.
    """
    try:
        world = entry(num_envs)
    except Exception as error:
        raise ValueError(f"{name}: making {num_envs} users raised {say(error)}") from error
    if not isinstance(world, VectorEnv):
        got = type(world).__name__
        raise ValueError(  # noqa: TRY004 - as its other misfits
            f"{name}: expected a gymnasium.vector.VectorEnv, got {got}"
        )
    _require_form(name, world, num_envs)
    return world


def _require_form(name: str, world: "VectorEnv[Any, Any, Any]", num_envs: int) -> None:
    if world.num_envs != num_envs:
        raise ValueError(f"{name}: expected {num_envs} users, got {world.num_envs}")
    if world.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"{name}: expected metadata autoreset_mode NEXT_STEP, "
            f"got {world.metadata.get('autoreset_mode')}"
        )
    space, action = world.single_observation_space, world.single_action_space
    if not isinstance(space, spaces.Dict) or any(part not in space.spaces for part in _PARTS):
        raise ValueError(
            f"{name}: expected a Dict of user (U,), item (K, F) and, if you like, "
            f"personal (K, P) and mask (K,) as observation, got {space}"
        )
    shape = space["item"].shape or ()
    if len(space["user"].shape or ()) != 1 or len(shape) != 2:
        raise ValueError(
            f"{name}: expected user (U,) and item (K, F), got {space['user'].shape} and {shape}"
        )
    if not isinstance(action, spaces.Discrete) or (action.n, action.start) != (shape[0], 0):
        raise ValueError(f"{name}: expected actions Discrete({shape[0]}), got {action}")


if ENV_ID.partition(":")[2] not in registry:
    register(
        ENV_ID.partition(":")[2],
        vector_entry_point="policies.training.custom_world:CustomVectorEnv",
    )
