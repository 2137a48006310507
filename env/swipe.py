"""SwipeEnv: one person in front of a feed, across days."""

from typing import Any

import gymnasium
import numpy as np

from env.film import Film
from env.observation import Observation
from env.render import render_frame
from env.still import render_lines
from env.vector import SEEDS, SwipeVectorEnv


class SwipeEnv(gymnasium.Env[Observation, Any]):
    """One person swipes through sessions across days until they never come back.

    A session is cards one after another; each moves the person: their satiation with its topic,
    their load, and, hidden, their satisfaction, on which hangs when they come back. What engages
    now and what brings people back are at odds, by bait, satiation and load.

    # Observation

    `obs="dict"`, all float32 and within +-100, but the mask:

    - `user` (U,): belief of interests, a number an item dimension; topics shown lately (32);
      session, calendar and running means (`env.observe.USER_FACTS`); one-hot cohort, device,
      country and language.
    - `items` (K, F): of each candidate its vector, then `env.supply.ITEM_FACTS`: duration, age,
      exposures, posterior log-odds and doubt of a valid play, rates, a guess of its bait.
    - `personal` (K, 4): match with the belief, topic shown lately, same language, predicted valid
      play.
    - `mask` (K,) int8: 1 where a candidate may be shown.

    `obs="flat"` is the first three in one Box; `obs="ids"` the rows of the candidates and the mask.
    `obs="feed"` is the same Dict of the HTTP feed's own columns (`env.features`: `user` SHARED,
    `items` STATIC, `personal` DYNAMIC), and `obs="feed_flat"` these in one Box, so that a ranker
    which was trained on them can be served; `env.feed_view` says what each of them holds.

    Hidden are satisfaction, taste, load, true bait and how readily the person returns.

    # Action

    - `"next"`, Discrete(K): the candidate to show.
    - `"page"`, m different ones of K: cards in order. Feedback comes after the page, and a person
      may leave inside it.
    - `"weights"`, Box(-1, 1, (8,)): log multipliers of the predictions by which a page of m is
      ranked; see `env.fusion`.

    Illegal ones raise ValueError and change nothing.

    # Reward

    `"watch"` seconds, `"engagement"` (`env.reward.Reward`), `"satisfaction"` (a survey of 0.5% of
    the cards), `"retention"` (at a session's end) or `"mix"`; see `env.objective`.

    # Episode End

    Terminated when the person never returns; truncated when their next session is after the last
    day of the horizon, on day `horizon_days` or later (the first day is 0). A session's end is no
    episode's end: the next observation opens the next one.

    # Info

    Components of the reward (`watch_s`, `engagement`, `survey`, `retention`) and events of the
    step, `n_cards` that were seen, `tail` (how many of them were of the less exposed half of the
    items), `session_end`, `gap_days`, and `discount`: 1 within a session, `day_discount **
    gap_days` at its end, 0 if there is no return; `gap_days` is 0 within a session and if there is
    no return. Of a page also `page_<event>`, card by card.

    # Arguments

    Those of `SwipeVectorEnv`, and `render_mode`: "ansi" (five lines) or "rgb_array" (a phone with
    the last card, beside it the person with what is hidden of them). `reset(seed=s)` begins the
    world anew with the first life of seed s; `reset()` goes on with the next life.

    # Version

    v0
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(self, *, render_mode: str | None = None, **kwargs: Any) -> None:
        """Open a feed for one person; see `SwipeVectorEnv` for the other arguments.

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
        """Begin an episode.

        Args:
            seed: the world begins anew with this seed's first life; None: the next life begins.
            options: none are known.

        Raises:
            ValueError: an option is given, or the seed is negative.
        """
        super().reset(seed=seed)
        if seed is None and not self.vector.is_seeded:
            seed = int(self.np_random.integers(SEEDS))
        observation, _ = self.vector.reset(seed=seed, options=options)
        if self._film is not None:
            self._film.begin()
        return _only(observation), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the person what was chosen.

        Args:
            action: of `action_space`.

        Raises:
            ValueError: the action is illegal; nothing happened.
            RuntimeError: `reset` has to be called first, or again after the end of an episode.
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

        After the last card of a visit what is hidden is that of the next visit's start.

        Raises:
            RuntimeError: `reset` was not called.
            ImportError: an image is asked for without Pillow.
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
