"""What the bench of the full world comes to: rows of policies, gains, other worlds."""

import msgspec

from env.played_lives import PlayedLives
from serve.retention_gains import Gain


class PolicyFigures(msgspec.Struct, frozen=True):
    """What people's lives were under a policy.

    Attributes:
        name: of the policy.
        active_days: with a session, a person.
        d30: share of people who had a session on day 30.
        churned: share of people who left for ever.
        session_cards: cards a session.
        card_watch_s: seconds a card.
        card_reward: engagement a card.
    """

    name: str
    active_days: float
    d30: float
    churned: float
    session_cards: float
    card_watch_s: float
    card_reward: float


class MovedWorld(msgspec.Struct, frozen=True):
    """Retention against myopia in a world with other constants, both as they came from ours.

    Attributes:
        seed: of the constants.
        myopic_days: active days under the myopic bandit.
        gain: in active days.
    """

    seed: int
    myopic_days: float
    gain: Gain


class WorldResult(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        policies: a row each.
        gain_over_myopic: in active days, relative.
        d30_over_myopic: difference of shares.
        gain_over_session: in active days, over the same learner without credit after a session.
        gain_over_mix: over the best constant mixture.
        gain_over_weights: over the ranking weights that it began as.
        best_mix: name of that mixture.
        control: gain over the myopic bandit where nothing is slow, both made there.
        moved: worlds with other constants.
        moved_wins: of them, those where people have more active days under retention.
        seconds: of all.
        seed: of everything.
    """

    policies: list[PolicyFigures]
    gain_over_myopic: Gain
    d30_over_myopic: Gain
    gain_over_session: Gain
    gain_over_mix: Gain
    gain_over_weights: Gain
    best_mix: str
    control: Gain
    moved: list[MovedWorld]
    moved_wins: int
    seconds: float
    seed: int


def figures_of(name: str, lives: PlayedLives) -> PolicyFigures:
    """Return the row of a policy."""
    return PolicyFigures(
        name=name,
        active_days=float(lives.active_days.mean()),
        d30=float(lives.day_30.mean()),
        churned=float(lives.churned.mean()),
        session_cards=float(lives.cards.sum() / lives.active_days.sum()),
        card_watch_s=float(lives.watch_s.sum() / lives.cards.sum()),
        card_reward=lives.reward_a_card(),
    )
