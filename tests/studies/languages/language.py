"""The study of languages: own ones on the first pages, others as they are played, and the price.

It serves newcomers of eight markets from the generated catalogue and from one whose languages have
the same shares everywhere, and users of the KuaiRand world with the preference and without.
"""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from serve.config import Config
from tests.studies.languages.markets import (
    ANY,
    FOREIGN,
    HABITS,
    NEVER,
    LanguageServer,
    MarketResult,
    catalogues,
    run_markets,
    warm_up,
)
from tests.studies.languages.rewards import compare_rewards, mean_and_low, with_foreign_share
from tests.studies.served_world.world import WorldSize

Advance = Callable[[str, int, int], None]
WORLD_USERS = 2_000


class LanguageSize(msgspec.Struct, frozen=True):
    """How much is simulated.

    Attributes:
        users: newcomers of each market and habit.
        warm_pages: pages of the warm-up.
        items: of each catalogue.
        cards: seen in each world of the reward.
        seeds: of these worlds, in pairs.
    """

    users: int = 40
    warm_pages: int = 2_000
    items: int = 2_000
    cards: int = 40_000
    seeds: int = 5


class LanguageResult(msgspec.Struct, frozen=True):
    """Measured figures.

    Attributes:
        own_language: share of the cards of pages 1 to 3 in the user's own language or without
            words, of newcomers who never play another, by catalogue and market.
        own_language_min: the least of these.
        own_language_before: the least where all languages of a market are alike.
        foreign_followed: share of other languages in cards 21 to 30 of users who play hardly any
            other card, mean over markets where there is one.
        foreign_any: the same of users who play all languages alike.
        foreign_never: the same of users who never play another language.
        gave_way: share of the pages on which the own language gave way.
        reward_ratio: reward a card with the preference over without, mean over seeds; 0 if none.
        reward_ratio_low: lower end of its interval over seeds.
        reward_ratios: by seed.
        own_share, own_share_before: share of the cards in the user's own language, in that world.
    """

    size: LanguageSize
    seed: int
    own_language: dict[str, dict[str, float]]
    own_language_min: float
    own_language_before: float
    foreign_followed: float
    foreign_any: float
    foreign_never: float
    gave_way: float
    reward_ratio: float = 0.0
    reward_ratio_low: float = 0.0
    reward_ratios: list[float] = []
    own_share: float = 0.0
    own_share_before: float = 0.0


def run_language(
    size: LanguageSize, *, seed: int, advance: Advance, config: Config | None = None
) -> LanguageResult:
    """Measure.

    Args:
        size: how much.
        seed: of items, users and draws; the first one of the worlds.
        advance: told of progress.
        config: of the server; the default one if None.
    """
    config = config or Config()
    markets = _markets(size, seed, config, advance)
    before = _markets(size, seed, with_foreign_share(config, 1.0), advance)
    result = _result(size, seed, markets, before)
    if not size.seeds:
        return result
    rewards = compare_rewards(
        WorldSize(users=WORLD_USERS),
        size.cards,
        range(seed, seed + size.seeds),
        config,
        lambda n: advance("rewards", n, 2 * size.seeds),
    )
    mean, low = mean_and_low(rewards.ratios)
    return msgspec.structs.replace(
        result,
        reward_ratio=mean,
        reward_ratio_low=low,
        reward_ratios=rewards.ratios,
        own_share=rewards.own_after,
        own_share_before=rewards.own_before,
    )


def _markets(
    size: LanguageSize, seed: int, config: Config, advance: Advance
) -> dict[str, dict[str, MarketResult]]:
    """Return the results of the markets by catalogue."""
    found = {}
    step = f"newcomers, foreign share {config.feed.foreign_share:g}"
    for n_done, (name, items) in enumerate(catalogues(seed, size.items)):
        advance(step, n_done, 2)
        server = LanguageServer(items, config)
        warm_up(server, items, size.warm_pages, seed)
        found[name] = run_markets(server, size.users, seed)
    advance(step, 2, 2)
    return found


def _result(
    size: LanguageSize,
    seed: int,
    found: Mapping[str, Mapping[str, MarketResult]],
    before: Mapping[str, Mapping[str, MarketResult]],
) -> LanguageResult:
    results = [market for markets in found.values() for market in markets.values()]
    several = [market for market in results if market.has_others]
    own = {
        name: {country: round(market.own_language, 4) for country, market in markets.items()}
        for name, markets in found.items()
    }
    foreign = {
        habit.name: float(np.mean([market.foreign_21_30[habit.name] for market in several]))
        for habit in HABITS
    }
    return LanguageResult(
        size=size,
        seed=seed,
        own_language=own,
        own_language_min=min(market.own_language for market in results),
        own_language_before=min(
            market.own_language for markets in before.values() for market in markets.values()
        ),
        foreign_followed=foreign[FOREIGN.name],
        foreign_any=foreign[ANY.name],
        foreign_never=foreign[NEVER.name],
        gave_way=float(np.mean([market.gave_way for market in results])),
    )
