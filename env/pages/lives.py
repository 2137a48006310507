"""Logged lives as arrays: each user's sessions in order, with the candidates of every card.

A life is the sequence of cards that one user saw, a step a card, up to the last session that began
early enough for its next gap to be known. Pages are stored once as float16 and steps refer to them.
Off-policy evaluation and offline retention training read lives. Rejected alternatives:
`docs/decisions/logged-lives.md`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from env.vocabulary import Bools, Float32s, Floats, Ints, Keys

Halves = npt.NDArray[np.float16]
NEVER = np.inf
"""Gap of a session that no other followed within the window."""

NO_PAGE = -1


class LifeReward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of a life: the rewards of its cards, and a bonus for each return.

    Attributes:
        return_worth: paid at a session's end for each unit of day_discount ** gap.
        day_discount: in (0, 1].
        window_days: a longer gap counts as no return, so that it is known in time.
    """

    return_worth: float = 20.0
    day_discount: float = 0.97
    window_days: int = 7

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        if not 0.0 < self.day_discount <= 1.0:
            raise ValueError(f"day_discount must be in (0, 1], got {self.day_discount}")
        if not 0.0 <= self.return_worth < np.inf:
            raise ValueError(f"return_worth must be at least 0, got {self.return_worth}")
        if self.window_days < 1:
            raise ValueError(f"window_days must be at least 1, got {self.window_days}")

    def discounts(self, lives: "Lives") -> Floats:
        """Return the discount of each step's future, shape (n,): 1 within a session."""
        found: Floats = np.power(self.day_discount, lives.gap_days)
        return np.where(lives.gap_days == NEVER, 0.0, found)

    def rewards(self, lives: "Lives") -> Floats:
        """Return each step's reward, the return included, shape (n,)."""
        returns = np.where(lives.leaves, self.discounts(lives), 0.0)
        return lives.reward + self.return_worth * returns


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """m lives of n steps in all, on p pages of up to K candidates.

    The steps of a life are consecutive and in order of time.
    """

    shared: Halves  # (p, U) columns of the user
    rows: Halves  # (p, K, F) columns of the candidates; zeros where there is none
    eps: Floats  # (p,) the page's floor, in [0, 1]
    page: Ints  # (n,) of each step
    mask: Bools  # (n, K) candidates that the step could take
    floor: Bools  # (n, K) candidates of the exploration floor; unused where eps is 0
    action: Ints  # (n,) on the mask
    propensity: Floats  # (n,) in (0, 1]
    reward: Floats  # (n,) of the card alone
    leaves: Bools  # (n,) the session's last step
    gap_days: Floats  # (n,) at a session's end until the next one, or NEVER; 0 within
    life: Ints  # (n,) from 0 to m - 1, in order
    user: Keys  # (m,) hash of the life's user
    last_page: Ints  # (m,) page that follows the last step, or NO_PAGE
    last_mask: Bools  # (m, K) candidates that its first step could take

    def __len__(self) -> int:
        return len(self.page)

    @property
    def n_lives(self) -> int:
        """Number of lives, one a user."""
        return len(self.user)

    @property
    def first(self) -> Ints:
        """Index of each life's first step, shape (m,)."""
        return np.flatnonzero(np.diff(self.life, prepend=-1))

    @property
    def session(self) -> Ints:
        """Number of each step's session, from 0 on, over all lives, shape (n,)."""
        begins = np.ones(len(self), dtype=np.int64)
        begins[1:] = self.leaves[:-1]
        return np.cumsum(begins) - 1

    def select(self, chosen: Bools) -> "Lives":
        """Return the lives where `chosen`, shape (m,), is True."""
        steps = chosen[self.life]
        number = np.cumsum(chosen) - 1
        picked = {name: getattr(self, name)[steps] for name in _OF_STEPS}
        picked |= {name: getattr(self, name)[chosen] for name in _OF_LIVES}
        used = np.unique(np.concatenate([picked["page"], picked["last_page"]]))
        used = used[used != NO_PAGE]
        place = np.full(len(self.eps) + 1, NO_PAGE)  # the last one is that of NO_PAGE
        place[used] = np.arange(len(used))
        picked |= {name: getattr(self, name)[used] for name in _OF_PAGES}
        picked |= {"page": place[picked["page"]], "last_page": place[picked["last_page"]]}
        return Lives(**(picked | {"life": number[picked["life"]]}))

    def pmfs(self, scores: Floats) -> Floats:
        """Return the pmfs, shape (n, K), that a policy of these logits (p, K) would draw from.

        It is `env.interface.slot_pmf` of their softmax under the logged rules, floor and prefix.
        """
        logits = np.where(self.mask, scores[self.page], -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        pmf = np.exp(logits)
        pmf /= pmf.sum(axis=1, keepdims=True)
        eps = self.eps[self.page][:, None]
        if eps.any():
            pmf = (1.0 - eps) * pmf + eps * self.floor / self.floor.sum(axis=1, keepdims=True)
        return np.asarray(pmf)

    def of_chosen(self, matrix: Floats) -> Floats:
        """Return the logged actions' values of a matrix of shape (n, K), shape (n,)."""
        return np.asarray(matrix[np.arange(len(self)), self.action])

    def after(self, values: Floats, last: Floats) -> Floats:
        """Return the values of the state that follows each step, shape (n,).

        `values` (n,) are of the state before each step, `last` (m,) of the one after each life.
        """
        follows = np.empty(len(self))
        follows[:-1] = values[1:]
        follows[np.append(self.first[1:], len(self)) - 1] = last
        return follows

    def users(self, pages: Ints) -> Float32s:
        """Return the users' columns on some pages, shape (len(pages), U)."""
        return self.shared[pages].astype(np.float32)

    def candidates(self, pages: Ints) -> Float32s:
        """Return the candidates' columns on some pages, shape (len(pages), K, F)."""
        return self.rows[pages].astype(np.float32)


_OF_STEPS = (
    "page",
    "mask",
    "floor",
    "action",
    "propensity",
    "reward",
    "leaves",
    "gap_days",
    "life",
)

_OF_PAGES = ("shared", "rows", "eps")
_OF_LIVES = ("user", "last_page", "last_mask")


def join_lives(parts: Sequence[Lives]) -> Lives:
    """Return the concatenation of lives that have the same number of candidates K.

    Raises:
        ValueError: there is none.
    """
    if not parts:
        raise ValueError("expected lives to join, got none")
    n_pages = np.cumsum([0, *(len(part.eps) for part in parts)])[:-1].tolist()
    n_lives = np.cumsum([0, *(part.n_lives for part in parts)])[:-1].tolist()
    moved = [
        dataclasses.replace(
            part,
            page=part.page + first_page,
            life=part.life + first_life,
            last_page=np.where(part.last_page == NO_PAGE, NO_PAGE, part.last_page + first_page),
        )
        for part, first_page, first_life in zip(parts, n_pages, n_lives, strict=True)
    ]
    columns = {
        name: np.concatenate([getattr(part, name) for part in moved]) for name in Lives.__slots__
    }
    return Lives(**columns)
