"""Streams of debuts and of swipes with known effects, for tests of what uploads are owed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from builders import PLAYED, interaction, make_item

from env.fair_start.audience import Audiences
from env.fair_start.reach import UploadState
from env.fair_start.settings import AudienceArgs, FairStart
from env.items.catalogue import Catalogue
from env.items.content import static_block
from env.records import ItemRecord, pack_halves
from env.vocabulary import Floats, Interaction, ItemId, Scene, UserKey

FEW = AudienceArgs(FairStart(impressions=3, by_market={"TH": 5}))
"""Arguments under which little is owed."""

START_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
REWARDS = np.array([0.0, 0.5, 1.0, 1.5, 2.5, 4.0])
CHANCES = np.array([0.37, 0.30, 0.22, 0.07, 0.03, 0.01])
"""Of an ordinary card: its reward has a mean of .59 and a standard deviation of .67."""


def debut(name: str, at_ms: int = START_MS, **fields: object) -> ItemRecord:
    item = make_item(name, **{"country": "GB", "language": "en", **fields})
    return ItemRecord(item.item_id, at_ms, item, pack_halves(static_block(item)), debut=True)


def takedown(name: str, at_ms: int = START_MS) -> ItemRecord:
    return ItemRecord(ItemId(name), at_ms)


def shown(name: str, at_ms: int = START_MS, reward: float = 0.5, **scene: object) -> Interaction:
    """Return an interaction, of an old account in Britain if the scene does not say else.

    Which account is unknown, so it is no other's; `by` says it.
    """
    fields = {"at_ms": at_ms, "country": "GB", "language": "en", "tenure_days": 100, **scene}
    place = msgspec.convert(fields, Scene)
    seen = interaction(name, PLAYED, reward=reward, scene=place, at_ms=at_ms)
    return by("", seen)


def by(user: str, swipe: Interaction) -> Interaction:
    """Return the same interaction of this account."""
    return msgspec.structs.replace(swipe, user=UserKey(user))


def draw_rewards(rng: np.random.Generator, n: int, uplift: float = 0.0) -> Floats:
    """Return rewards whose mean is `uplift`, in [-.59, .35], above that of an ordinary card."""
    chances = CHANCES.copy()
    chances[1:] *= np.clip(1.0 + uplift / float(REWARDS @ CHANCES), 0.0, 1.0 / chances[1:].sum())
    chances[0] = 1.0 - chances[1:].sum()
    return REWARDS[rng.choice(len(REWARDS), n, p=chances)]


Line = ItemRecord | Interaction


def lines(*records: Line) -> list[Line]:
    return list(records)


def folded(records: Sequence[Line], audiences: Audiences | None = None) -> Audiences:
    audiences = Audiences(FEW) if audiences is None else audiences
    for record in records:
        if isinstance(record, ItemRecord):
            audiences.put(record)
        else:
            audiences.fold(record)
    return audiences


def catalogue_after(records: Sequence[Line]) -> Catalogue:
    catalogue = Catalogue()
    for record in records:
        if isinstance(record, ItemRecord):
            catalogue.apply(record)
    return catalogue


def only(audiences: Audiences) -> UploadState:
    (upload,) = audiences.uploads()
    return upload


@dataclass
class Feed:
    """A market that swipes at an even pace and pays its debts as the controller says.

    Attributes:
        share_of_debt: owed impressions of a new upload by impressions between two uploads.
        found: part of the reserved cards for which the page has a fitting upload.
        organic: part of the other cards that show an upload which is owed something.
    """

    args: AudienceArgs
    share_of_debt: float
    an_hour: int = 600
    found: float = 1.0
    organic: float = 0.0
    country: str = "GB"
    shares: list[float] = field(default_factory=list)
    n_uploads: int = 0

    def __post_init__(self) -> None:
        self.audiences = Audiences(self.args)
        self.catalogue = Catalogue()
        self.rng = np.random.default_rng(5)

    def put(self, record: ItemRecord) -> None:
        self.catalogue.apply(record)
        self.audiences.put(record)

    def run(self, hours: float, page: int = 10) -> None:
        """Let pages be served; reserved cards go to whose match and price are highest."""
        begin_ms = max(self.audiences.clock_ms, START_MS)
        for k in range(int(hours * self.an_hour) // page):
            at_ms = begin_ms + k * page * HOUR_MS // self.an_hour
            self._upload(begin_ms, at_ms)
            share = self.audiences.share(self.country, "en")
            self.shares.append(share)
            reserved = int(share * page + self.rng.random())
            for card, chosen in enumerate(self._choose(reserved, page)):
                self.audiences.fold(shown(chosen, at_ms + card, country=self.country))

    def _upload(self, begin_ms: int, at_ms: int) -> None:
        owed = self.args.fair_start.owed_in(self.country)
        every_ms = owed / self.share_of_debt * HOUR_MS / self.an_hour
        while self.n_uploads * every_ms <= at_ms - START_MS:
            self.put(debut(f"u{self.n_uploads}", max(at_ms, begin_ms), country=self.country))
            self.n_uploads += 1

    def _choose(self, reserved: int, page: int) -> list[str]:
        reach = self.audiences.aligned(self.catalogue)
        owed = np.flatnonzero(reach.owed > 0)
        worth = self.rng.uniform(0.0, 0.6, len(owed)) + reach.price[owed]
        best = owed[np.argsort(-worth, kind="stable")][:reserved]
        found = [self.catalogue.ids[i] for i in best if self.rng.random() < self.found]
        rest: list[str] = []
        for _ in range(page - len(found)):
            luck = len(owed) > 0 and self.rng.random() < self.organic
            rest.append(self.catalogue.ids[self.rng.choice(owed)] if luck else "old")
        return [*found, *rest]
