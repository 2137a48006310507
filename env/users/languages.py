"""How gladly a user plays each language: a posterior rate of valid plays a card.

The prior says that a user plays their own languages and hardly any other, and a few cards of
another language outweigh it. Items without words are in no language, so they say nothing here and
count as the user's own everywhere. Constants and rejected alternatives: `docs/decisions/languages.md`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from env.users.interests import tally_columns
from env.users.state import UserState

PRIOR_CARDS = 4.0
"""Weight of the prior rate, in cards of a language."""

OWN_RATE, OTHER_RATE = 0.5, 0.05
"""Prior rates of valid plays of the user's own languages, and of any other."""

LIKED_RATE = 0.1
"""A language that was played at this rate or more is one that the user plays."""

_SAME = {"tl": "fil", "fil": "tl", "he": "iw", "iw": "he", "id": "in", "in": "id"}
"""Codes of one and the same language: Filipino is Tagalog, and two have a former code."""


def spoken_by(language: str) -> tuple[str, ...]:
    """Return the codes of a user's own language; none where it is unknown.

    >>> spoken_by("tl"), spoken_by("th"), spoken_by("")
    (('tl', 'fil'), ('th',), ())
    """
    if not language:
        return ()
    return (language, _SAME[language]) if language in _SAME else (language,)


@dataclass(frozen=True, slots=True)
class LanguageRates:
    """A user's posterior rates of valid plays, by language."""

    own: float = OWN_RATE  # of the user's own languages together
    other: float = OTHER_RATE  # of a language that the user never met
    met: dict[str, float] = field(default_factory=dict)  # of the languages of recent cards

    @classmethod
    def of(cls, user: UserState, own: Collection[str]) -> "LanguageRates":
        """Return the rates of a user whose own languages these are; none: any may be."""
        names, exposure, plays = tally_columns(user.languages, user.n_cards)
        prior = OTHER_RATE if own else OWN_RATE
        met = {
            name: _rate(plays[k], exposure[k], prior)
            for k, name in enumerate(names)
            if name not in own
        }
        is_own = [k for k, name in enumerate(names) if name in own]
        rate = _rate(
            sum(float(plays[k]) for k in is_own), sum(float(exposure[k]) for k in is_own), OWN_RATE
        )
        return cls(rate, prior, met)

    @property
    def liked(self) -> dict[str, float]:
        """The rates of the other languages that the user plays."""
        return {name: rate for name, rate in self.met.items() if rate >= LIKED_RATE}

    @property
    def liked_share(self) -> float:
        """The share of the user's cards that the other languages deserve, in [0, 1)."""
        liked = sum(self.liked.values())
        return liked / (self.own + liked)

    @property
    def best(self) -> float:
        """The rate of the language that the user plays most gladly."""
        return max(self.own, *self.met.values()) if self.met else self.own


def _rate(plays: float, exposure: float, prior: float) -> float:
    """Return the posterior mean of a rate whose prior weighs `PRIOR_CARDS` cards."""
    return (float(plays) + PRIOR_CARDS * prior) / (float(exposure) + PRIOR_CARDS)
