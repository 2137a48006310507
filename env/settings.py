"""How a feed is played, apart from the world that it is in: what an action is, among how many.

What cannot be played is refused here, before anybody is drawn.
"""

from typing import Literal, get_args

import msgspec

from env.candidates import MOST_CANDIDATES

ActionMode = Literal["next", "page", "weights"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a feed is played, apart from the world that it is in.

    Attributes:
        actions: a card, a page of them, or the weights by which a page is ranked.
        n_candidates: K, from which is chosen.
        page_size: m, cards of a page; one in mode "next".
        masked: candidates of other markets are offered and masked, instead of not offered.
        steps_per_day: steps after which the supply's next day comes.
    """

    actions: ActionMode = "next"
    n_candidates: int = 20
    page_size: int = 6
    masked: bool = False
    steps_per_day: int = 24

    def __post_init__(self) -> None:
        """Refuse what cannot be played.

        Raises:
            ValueError: a mode is unknown or a size out of range.
        """
        if self.actions not in get_args(ActionMode):
            modes = ", ".join(get_args(ActionMode))
            raise ValueError(f"expected actions of {modes}, got {self.actions!r}")
        if not 2 <= self.n_candidates <= MOST_CANDIDATES:
            raise ValueError(f"expected 2 to {MOST_CANDIDATES} candidates, got {self.n_candidates}")
        if not 1 <= self.n_cards <= self.n_candidates:
            raise ValueError(
                f"expected a page of 1 to {self.n_candidates} cards, got {self.page_size}"
            )
        if self.steps_per_day < 1:
            raise ValueError(f"expected at least 1 step a day, got {self.steps_per_day}")

    @property
    def n_cards(self) -> int:
        """Cards a turn."""
        return 1 if self.actions == "next" else self.page_size
