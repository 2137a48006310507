"""SwipeEnv as a native Gymnasium vector environment: n simulated users a step."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from env.gym.actions import action_space, cards_of
from env.gym.observation import Observation, ObsMode, Screen
from env.vocabulary import Bools, Floats, Ints
from env.world.creators import LiveSupply
from env.world.kuaisim_crowd import objective_of
from env.world.objective import Objective, RewardName
from env.world.population import DrawnUsers, UserSource
from env.world.presets import Preset, load
from env.world.settings import ActionMode, Settings
from env.world.simulation import EVENTS, Simulation, StepResult, add_cards
from env.world.supply import FixedSupply, Supply

SEEDS = 2**31
Step = tuple[Observation, Floats, Bools, Bools, dict[str, Any]]


class SwipeVectorEnv(VectorEnv[Observation, Any, Any]):
    """n users in front of a feed; see `SwipeEnv` for the data sheet.

    User i of `reset(seed=s)` is that of `SwipeEnv.reset(seed=s + i)`, bit for bit, given the same
    supply. A slot whose episode ended takes one more step, with its action ignored and a reward of
    0, which returns the next episode's first observation (`AutoresetMode.NEXT_STEP`).

    Attributes:
        cast: draws the users.
        swiping: the simulation, with the hidden state.
        play: plays a step of it; a recorder may replace it by its own.
        screen: writes the observation.
        is_seeded: whether `reset` was called.
    """

    metadata: dict[str, Any] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        preset: str | Preset = "kuairand",
        obs: ObsMode = "dict",
        actions: ActionMode = "next",
        reward: RewardName | Objective = "engagement",
        n_candidates: int = 20,
        page_size: int = 6,
        masked: bool = False,
        supply: Literal["live", "fixed"] | Supply = "fixed",
        cast: UserSource | None = None,
        world_seed: int = 0,
        steps_per_day: int = 24,
        horizon_days: int | None = None,
        copy: bool = True,
        render_mode: str | None = None,
    ) -> None:
        """Create n users' environments.

        Args:
            num_envs: n.
            preset: constants of the world, by name, path or value.
            obs: form of the observation, see `SwipeEnv`.
            actions: the next card, a page, or weights of ranking.
            reward: by name, or with its weights.
            n_candidates: K, to choose from.
            page_size: cards of a page, in modes "page" and "weights".
            masked: offer candidates of other markets with mask 0 and refuse them as an action; else
                they are not offered, and every action is legal.
            supply: a supply, or one that changes with exposure ("live") or never ("fixed"). "live"
                scales exposures to a larger population, see `LiveSupply`; with fewer than some
                hundred users, chance alone decides which uploads reach an audience.
            cast: draws the users; by the preset's population if None.
            world_seed: of the items and creators.
            steps_per_day: steps after which the supply's next day comes.
            horizon_days: length of an episode; the preset's if None.
            copy: return observations that stay; else the next step overwrites them, and they must
                not be written to.
            render_mode: None, since only `SwipeEnv` renders.

        Raises:
            ValueError: an argument is out of range.
        """
        if render_mode is not None:
            raise ValueError(
                f"expected render_mode=None of many users, got {render_mode!r}: make one user's "
                "environment to render it"
            )
        world = load(preset) if isinstance(preset, str) else preset
        if horizon_days is not None:
            world = msgspec.structs.replace(world, horizon_days=horizon_days)
        if num_envs < 1:
            raise ValueError(f"expected at least 1 environment, got {num_envs}")
        settings = Settings(actions, n_candidates, page_size, masked, steps_per_day)
        self.num_envs = num_envs
        self.objective = reward if isinstance(reward, Objective) else objective_of(world, reward)
        self.cast = cast or DrawnUsers(world)
        self.swiping = Simulation(
            world,
            self.cast,
            _supply(supply, world, world_seed, num_envs * settings.n_cards * steps_per_day),
            settings,
            self.objective.reward,
            num_envs,
        )
        self.play: Callable[[Ints], StepResult] = self.swiping.play
        self.screen = Screen(self.swiping, obs, keeps_items=actions == "weights")
        self._copy = copy
        self.is_seeded = False
        self.single_observation_space = self.screen.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = action_space(settings)
        self.action_space = action_space(settings, (num_envs,))

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every slot.

        Args:
            seed: s for seeds s, s + 1, .., or one per slot: the world restarts, with the first life
                of each seed. None: the world goes on with each slot's next life.
            options: none are known.

        Raises:
            ValueError: options are given, or a seed is missing or negative.
        """
        if options:
            raise ValueError(f"expected no options, got {sorted(options)}")
        if seed is None and self.is_seeded:
            self.swiping.renew()
        else:
            self.swiping.restart(self._seeds(seed))
        return self.screen.write(copy=self._copy), {}

    def step(self, actions: Any) -> Step:
        """Show each user the chosen candidates.

        Raises:
            ValueError: an action is illegal; the state does not change.
            RuntimeError: `reset` was not called.
        """
        if not self.is_seeded:
            raise RuntimeError("expected reset() before the first step()")
        cards = cards_of(actions, self.swiping, self.screen)
        turn = self.play(cards)
        return (
            self.screen.write(copy=self._copy),
            self.objective.of(turn.worth),
            turn.terminated,
            turn.truncated,
            _info(turn, cards),
        )

    def _seeds(self, seed: int | Sequence[int] | None) -> Ints:
        first = int(self.np_random.integers(SEEDS)) if seed is None else seed
        seeds = np.asarray(first, dtype=np.int64)
        if seeds.ndim == 0:
            seeds = seeds + np.arange(self.num_envs)
        if seeds.shape != (self.num_envs,) or seeds.min() < 0:
            raise ValueError(f"expected {self.num_envs} seeds of 0 or more, got {seed}")
        super().reset(seed=int(seeds[0]))
        self.is_seeded = True
        return seeds


def _supply(supply: str | Supply, world: Preset, world_seed: int, cards_a_day: int) -> Supply:
    """Return a supply, made from the preset's uploads if only its kind is given.

    `cards_a_day` is the most that is shown to all users together.

    Raises:
        ValueError: the kind is unknown.
    """
    if not isinstance(supply, str):
        return supply
    if supply not in ("live", "fixed"):
        raise ValueError(f'expected a supply, "live" or "fixed", got {supply!r}')
    live = LiveSupply(world, world_seed, cards_a_day=cards_a_day)
    return live if supply == "live" else FixedSupply(live.stock)


def _info(turn: StepResult, cards: Ints) -> dict[str, Any]:
    worth = turn.worth
    info: dict[str, Any] = {
        "n_cards": turn.n_cards,
        "session_end": turn.session_end,
        "gap_days": turn.gap_days,
        "discount": turn.discount,
        "retention": worth.retention,
    }
    info |= dict(zip(EVENTS, add_cards(turn.events), strict=True))
    if len(turn.events) > 1:
        pages = (f"page_{name}" for name in EVENTS)
        info["page"] = cards
        info |= dict(zip(pages, turn.events.transpose(1, 2, 0), strict=True))
    return info
