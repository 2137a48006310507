"""SwipeEnv: one simulated user in front of a feed, across days."""

from typing import Any

import gymnasium
import numpy as np

from env.gym.observation import Observation
from env.gym.vector import SEEDS, SwipeVectorEnv
from env.render.film import Film
from env.render.render import render_frame
from env.render.still import render_lines


class SwipeEnv(gymnasium.Env[Observation, Any]):
    """One user swipes through sessions across days until they never come back.

    Each card moves the user's satiation with its topic, their load, and their hidden satisfaction,
    which decides when they return. Through bait, satiation and load, immediate engagement and
    returns can conflict.

    # Observation

    `obs="dict"`, all float32 and within +-100, except the mask:

    - `user` (U,): belief of interests, one number per item dimension; topics shown lately (32);
      session, calendar and running means (`env.world.observer.USER_FACTS`); one-hot cohort, device,
      country and language.
    - `item` (K, F): each candidate's vector, then `env.world.supply.ITEM_FACTS`: duration, age,
      exposures, posterior log-odds and uncertainty of a valid play, rates, a guess of its bait.
    - `personal` (K, 4): match with the belief, topic shown lately, same language, predicted valid
      play.
    - `mask` (K,) int8: 1 where a candidate may be shown.

    `obs="flat"` is the first three in one Box; `obs="ids"` the rows of the candidates and the mask.
    `obs="feed"` is the Dict of the HTTP feed's columns (`env.columns.schema`: `user` SHARED,
    `item` STATIC, `personal` DYNAMIC; see `env.gym.feed_observation`), `obs="feed_flat"` the same
    in one Box; a ranker trained on either can be served.

    Hidden are satisfaction, taste, load, true bait and the class of return.

    # Action

    - `"next"`, Discrete(K): the candidate to show.
    - `"page"`, MultiDiscrete of m candidates of K, in order. One that stands on the page already is
      replaced by the next candidate that does not: the next index, after K - 1 comes 0, masked ones
      passed over. Feedback comes after the page, and the user may leave inside it.
    - `"weights"`, Box(-1, 1, (8,)): log multipliers of the predictions that rank a page of m; see
      `env.gym.actions`.

    Illegal actions raise ValueError and change nothing.

    # Reward

    `"watch"` seconds, `"engagement"` (`env.reward.Reward`), `"satisfaction"` (a survey of 0.5% of
    the cards), `"retention"` (at a session's end) or `"mix"`; see `env.world.objective`.

    # Episode End

    Terminated when the user never returns; truncated when their next session is on day
    `horizon_days` or later (the first day is 0). A session's end does not end the episode: the next
    observation opens the next session.

    # Info

    Components of the reward (`watch_s`, `engagement`, `survey`, `retention`) and events of the
    step, `n_cards` seen, `tail` (cards of the less exposed half of the items), `session_end`,
    `gap_days` (0 within a session and without a return), and `discount`: 1 within a session,
    `day_discount ** gap_days` at its end, 0 without a return. With pages also `page`, the
    candidates as they were shown, and `page_<event>`, card by card.

    # Arguments

    Those of `SwipeVectorEnv`, and `render_mode`: "ansi" (five lines) or "rgb_array" (a phone with
    the last card, and the user with their hidden state). `reset(seed=s)` restarts the world with
    the first life of seed s; `reset()` goes on with the next life.

    # Version

    v0
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(self, *, render_mode: str | None = None, **kwargs: Any) -> None:
        """Create the environment of one user; see `SwipeVectorEnv` for the other arguments.

        Raises:
            ValueError: the render mode is unknown, or another argument is out of range.
        """
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"expected a render_mode of {', '.join(modes)}, got {render_mode!r}")
        self.render_mode = render_mode
        self.vector = SwipeVectorEnv(1, **kwargs)
        self._film: Film | None = None
        if render_mode is not None:
            self._film = Film(self.vector.swiping, self.vector.cast)
            self.vector.play = self._film.play
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode: the first life of `seed` in a restarted world, or the next life."""
        super().reset(seed=seed)
        if seed is None and not self.vector.is_seeded:
            seed = int(self.np_random.integers(SEEDS))
        observation, _ = self.vector.reset(seed=seed, options=options)
        if self._film is not None:
            self._film.begin()
        return _only(observation), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the user the chosen candidates.

        Raises:
            ValueError: the action is illegal; the state does not change.
            RuntimeError: `reset` has to be called first.
        """
        if self.vector.swiping.over[0]:
            raise RuntimeError("the episode is over: expected reset() before the next step()")
        observation, reward, terminated, truncated, info = self.vector.step(
            np.asarray(action)[None]
        )
        return (
            _only(observation),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            {name: _plain(column[0]) for name, column in info.items()},
        )

    def render(self) -> Any:
        """Return the moment as text or as an image, shape (640, 960, 3) uint8, by `render_mode`.

        After a visit's last card, the hidden state is that of the next visit's start.

        Raises:
            RuntimeError: `reset` was not called.
            ImportError: an image is requested without Pillow.
        """
        if self._film is None:
            return None
        if not self.vector.is_seeded:
            raise RuntimeError("expected reset() before the first render()")
        still = self._film.still()
        return render_lines(still) if self.render_mode == "ansi" else render_frame(still)


def _only(observation: Observation) -> Observation:
    """Return the observation of a batch of one."""
    if isinstance(observation, dict):
        return {name: array[0] for name, array in observation.items()}
    return np.asarray(observation[0])


def _plain(value: Any) -> Any:
    return value.item() if value.ndim == 0 else value
