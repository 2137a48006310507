"""What of a catalogue a person knows already, looked up once a page for retrieval and filters.

A person's state holds item keys and creators' names; a page needs them as indices and codes of
the catalogue. Keys are compared by their low 32 bits, which is all that a state keeps of what was
seen: one unseen item in four million is taken for a seen one.
"""

from dataclasses import dataclass

import numpy as np

from env import users
from env.catalogue import Catalogue
from env.users import UserState
from env.vocabulary import Bools, Ints


@dataclass(frozen=True, slots=True)
class Known:
    """A person's past in the catalogue's numbers.

    Attributes:
        items: shape (n_items,), which items were seen or are on a page that is still open.
        seen: indices of items among the last that were seen.
        delivered: indices of items on a page that is still open.
        blocked: codes of creators who are not wanted.
    """

    items: Bools
    seen: Ints
    delivered: Ints
    blocked: Ints

    @classmethod
    def of(cls, user: UserState, catalogue: Catalogue, now_ms: int) -> "Known":
        """Look a person up; `now_ms` decides which pages are still open."""
        seen = catalogue.find(users.seen_keys(user))
        delivered = catalogue.find(users.delivered_keys(user, now_ms))
        items = np.zeros(len(catalogue), dtype=np.bool_)
        items[seen] = True
        items[delivered] = True
        return cls(items, seen, delivered, catalogue.creator_codes(user.blocked))

    def allowed(self, catalogue: Catalogue, country: str) -> Bools:
        """Return, shape (n_items,), what may be shown there and is of nobody blocked."""
        available = catalogue.available(country)
        if not len(self.blocked):
            return available
        blocked = np.zeros(catalogue.n_creators, dtype=np.bool_)
        blocked[self.blocked] = True
        return available & ~blocked[catalogue.creators]
