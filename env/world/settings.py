"""Settings of a simulation apart from its world: the action mode and the candidates.

Invalid settings are refused before any user is drawn.
"""

from typing import Literal, get_args

import msgspec

from env.world.candidates import MOST_CANDIDATES

ActionMode = Literal["next", "page", "weights"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The action mode, candidates and calendar of a simulation."""

    actions: ActionMode = "next"  # a card, a page of cards, or the weights that rank a page
    n_candidates: int = 20  # K, to choose from
    page_size: int = 6  # m, cards of a page; one in mode "next"
    masked: bool = False  # offer and mask candidates of other markets
    steps_per_day: int = 24  # steps after which the supply's next day comes

    def __post_init__(self) -> None:
        """Refuse invalid settings.

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
        """Cards per step."""
        return 1 if self.actions == "next" else self.page_size
