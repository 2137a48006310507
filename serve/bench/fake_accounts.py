"""Accounts that were made to push one video: the adversary of the pools.

They follow the creator and ask for pages until the video is among their cards: that they watch to
the end, like and share, all else they skip at once. Cheap ones (`CHEAP`) registered just before and
come from few blocks of addresses; `OLD` ones were bought: they are as old as anybody's, and each
comes from a block of its own, so that nothing which a guard goes by sets them apart. (To tell no
address would: where others tell theirs, those who do not are a source.) To the server they are
people like others: pages are drawn by the same pipeline, and what they report goes through the same
fold.
"""

import msgspec

from env.records import FeedbackKind
from env.users import newcomer
from env.vocabulary import ItemId, Profile, UserKey
from serve.bench.served_items import DAY_MS
from serve.bench.served_pages import Said, report
from serve.bench.served_people import Person
from serve.bench.served_world import ServedWorld

SKIP_S = 0.4
CARD_MS = 500
"""Between two of their cards on the server's clock: nobody is really watching."""
DEVICE = "phone"

_ALL: tuple[FeedbackKind, ...] = ("like", "share", "leave")


class AttackSize(msgspec.Struct, frozen=True):
    """How hard a video is pushed.

    Attributes:
        accounts: that push it.
        origins: blocks of addresses that they come from; 0: no address is told.
        hours: from the upload on, in which they come, evenly.
        pages: that one asks for at most.
        tenure_days: since they registered.
        cohort: as which they registered.
    """

    accounts: int = 1_000
    origins: int = 20
    hours: float = 6.0
    pages: int = 3
    tenure_days: float = 1.0
    cohort: str = "day_new"


CHEAP = AttackSize()
OLD = AttackSize(origins=1_000, tenure_days=400.0, cohort="full_active")


class FakeAccounts:
    """A guest of a world: so many accounts a turn, until all have been there.

    Attributes:
        n_pushed: accounts that were shown the video, and pushed it.
    """

    def __init__(self, size: AttackSize, row: int) -> None:
        """Prepare; nobody comes before the video is there.

        Args:
            size: of the attack.
            row: of the video in the stock, which may still be to come.
        """
        self._size, self._row = size, row
        self._n_came = self.n_pushed = 0

    def visit(self, world: ServedWorld) -> list[Said]:
        """See `serve.bench.served_world.Guest`."""
        catalogue, size = world.pipeline.catalogue, self._size
        if self._row >= len(catalogue):
            return []
        target = catalogue.item(self._row)
        since_h = (world.clock_ms + world.size.turn_ms - target.published_ms) / 3_600_000
        due = round(size.accounts * min(since_h / size.hours, 1.0))
        records: list[Said] = []
        for k in range(self._n_came, due):
            profile = Profile(
                country=target.country,
                language=target.language,
                device=DEVICE,
                cohort=size.cohort,
                registered_ms=world.clock_ms - round(DAY_MS * size.tenure_days),
                follows=(target.creator,) if target.creator else (),
            )
            person = Person(
                UserKey(f"fake-{self._row}-{k}"),
                newcomer(profile),
                origin=f"farm {self._row}/{k % size.origins}" if size.origins else "",
            )
            records += self._push(world, person, target.item_id)
        self._n_came = max(self._n_came, due)
        return records

    def _push(self, world: ServedWorld, person: Person, target: ItemId) -> list[Said]:
        """Ask for pages until the video was there."""
        records: list[Said] = []
        at_ms = world.clock_ms
        for _ in range(self._size.pages):
            page = world.draw(person)
            if page is None:
                return records
            said: list[Said] = [page]
            for k, card in enumerate(page.cards):
                at_ms += CARD_MS
                said += report(page, k, _answer(card.item_id == target, card.duration_s), at_ms)
            person.hear(said)
            records += said
            if any(card.item_id == target for card in page.cards):
                self.n_pushed += 1
                return records
        return records


def _answer(is_target: bool, duration_s: float) -> list[tuple[FeedbackKind, float]]:
    if not is_target:
        return [("dwell", SKIP_S), ("leave", 0.0)]
    return [("dwell", duration_s), *((kind, 0.0) for kind in _ALL)]
