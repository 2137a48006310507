"""Creators of a simulated world, their uploads, and the rule by which they stop.

An item follows from the world's seed and its serial number, a creator's uploads of a day from seed,
creator and day. Exposure decides which creators give up: one whose last uploads all missed an
audience stops with some probability a day. A policy's spread of exposure thereby feeds back into
the supply.

Details: `docs/decisions/world-supply.md`.
"""

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from env.arrays.draws import BIRTH, life_keys, normals, uniforms
from env.arrays.reals import sum_rows
from env.columns.scales import bait_of
from env.vocabulary import Floats, Ints, Keys
from env.world.answers import chances
from env.world.generated import MARKETS
from env.world.presets import Preset, UploadRates
from env.world.responses import ResponseModel, generated
from env.world.supply import EVERYWHERE, LIKED, LONG, N_EVENT_CODES, PLAYED, Stock
from env.world.world import APPEAL, item_columns, terms_of, topics

CREATOR, ITEM, DAY = range(3)
"""Kinds of keys of a world."""

LANGUAGES = tuple(sorted({language for market in MARKETS for language in market.languages}))
ALWAYS_GLOBAL = 128
"""The first this many serial numbers are shown in every market, so that each class of rows has such
an item."""

TRIAL_DAYS = 3
TRIALS = 3
FAIR_AUDIENCES = 2.0
"""Number of audiences that an upload gets in its trial days under even exposure, if a live supply
knows the cards shown a day; with less, an even spread loses creators by chance alone."""

_UNIFORM_LANE = 128
_CREATOR_LANE, _LOCAL_LANE, _HISTORY_LANE = 132, 134, 136
_CODES = np.arange(N_EVENT_CODES)
_HISTORY_MU, _HISTORY_SD = 5.0, 1.2  # of ln exposures: assumed


@dataclass(frozen=True)
class Creators:
    """Columns over m creators."""

    direction: Floats  # (n_dims, m) unit vectors, the creators' subjects
    home: Ints  # (m,) market
    language: Ints  # (m,)
    effect: Floats  # (m,) standard normal, shared by their items
    share: Floats  # (m,) of all uploads


def response_model(preset: Preset) -> ResponseModel:
    """Return the answer model of the users of a preset."""
    return msgspec.structs.replace(
        generated(),
        rates=preset.rates,
        priors=preset.priors,
        intercept=preset.intercept,
        duration=preset.duration,
    )


def world_keys(world_seed: int, kind: int, numbers: Ints) -> Keys:
    """Return the keys of numbered entities of a kind, shape (n,)."""
    root = life_keys(np.array([world_seed]), np.array([kind]))
    return life_keys(np.repeat(root, len(numbers)), numbers)


def draw_creators(uploads: UploadRates, world_seed: int) -> Creators:
    """Return the creators of a world."""
    keys = world_keys(world_seed, CREATOR, np.arange(uploads.n_creators))
    cards = np.full(len(keys), BIRTH)
    z = normals(keys, cards, 0, uploads.n_dims + 2)
    u = uniforms(keys, cards, _UNIFORM_LANE, 2)
    weights = np.array([market.weight for market in MARKETS])
    home = pick(np.cumsum(weights / weights.sum()), u[0])
    spoken = [market.languages for market in MARKETS]
    language = [
        LANGUAGES.index(spoken[m][int(x * len(spoken[m]))])
        for m, x in zip(home.tolist(), u[1].tolist(), strict=True)
    ]
    output = np.exp(uploads.output_sd * z[-1])
    return Creators(
        direction=_unit(z[: uploads.n_dims]),
        home=home,
        language=np.array(language, dtype=np.int64),
        effect=z[-2],
        share=output / output.sum(),
    )


def pick(cumulated: Floats, uniform: Floats) -> Ints:
    """Return the index that each uniform falls to, by cumulated shares that end at 1."""
    found = np.searchsorted(cumulated, uniform, side="right")
    return np.minimum(found, len(cumulated) - 1)


class LiveSupply:
    """Items that creators upload day by day, each in the place of the oldest.

    Attributes:
        creators: of this world.
        is_active: whether a creator still uploads, shape (n_creators,).
    """

    is_live = True

    def __init__(
        self, preset: Preset, world_seed: int, *, cards_a_day: float | None = None
    ) -> None:
        """Draw the creators and the first day's items.

        Args:
            preset: gives the parameters of the uploads.
            world_seed: the same seed makes the same world.
            cards_a_day: shown to all users together. If given, exposures are scaled so that an even
                share in the trial days is `FAIR_AUDIENCES` audiences: giving up then depends on how
                exposure is spread, not on the number of simulated users. None: a card is one
                exposure. `UploadRates.exposures_per_swipe` multiplies either.
        """
        uploads = preset.uploads
        self._uploads = uploads
        self._reach_of_card = uploads.exposures_per_swipe
        if cards_a_day is not None:
            even_share = TRIAL_DAYS * cards_a_day / uploads.n_items
            self._reach_of_card *= FAIR_AUDIENCES * uploads.audience / even_share
        self._model = response_model(preset)
        self._world_seed = world_seed
        self.creators = draw_creators(preset.uploads, world_seed)
        self.restart()

    def restart(self) -> None:
        """Go back to the first day, on which the oldest items are n_items / a_day days old."""
        uploads = self._uploads
        self.is_active = np.ones(uploads.n_creators, dtype=np.bool_)
        self._failures = np.zeros(uploads.n_creators, dtype=np.int64)
        serial = np.arange(uploads.n_items)
        published = (serial - len(serial)) / max(uploads.a_day, 1.0)
        items = self.draw(serial, self.draw_creator(serial), published)
        self.stock = replace(items, counts=self._history(items))
        self._reach = self.stock.counts[0].copy()

    def pass_day(self, shown: Ints) -> None:
        """See `Supply.pass_day`."""
        per_event = [shown[:, (_CODES & event) > 0].sum(axis=1) for event in (PLAYED, LONG, LIKED)]
        counted = np.array([shown.sum(axis=1), *per_event], dtype=np.float64)
        self.stock = replace(self.stock, day=self.stock.day + 1, counts=self.stock.counts + counted)
        self._reach += self._reach_of_card * counted[0]
        self._judge()
        self._upload()

    def _judge(self) -> None:
        """Stop creators at random if their last uploads all missed the audience."""
        stock, uploads = self.stock, self._uploads
        age = stock.day - stock.published
        tried = (age > TRIAL_DAYS - 1.0) & (age <= TRIAL_DAYS)
        was_seen = self._reach >= uploads.audience
        self._failures += np.bincount(
            stock.creator[tried & ~was_seen], minlength=len(self.is_active)
        )
        self._failures[stock.creator[tried & was_seen]] = 0
        stops = self._creator_draws(0) < uploads.give_up
        self.is_active &= ~(stops & (self._failures >= TRIALS))

    def _upload(self) -> None:
        """Let active creators upload, and replace the oldest items."""
        rates = self._uploads.a_day * self.creators.share * self.is_active
        n_each = poisson(rates, self._creator_draws(1))
        creator = np.repeat(np.arange(len(n_each)), n_each)[: self.stock.n]
        first = int(self.stock.serial.max()) + 1
        serial = np.arange(first, first + len(creator))
        new = self.draw(serial, creator, np.full(len(serial), float(self.stock.day)))
        self.stock = _exchange(self.stock, new)
        self._reach[serial % self.stock.n] = 0.0

    def _creator_draws(self, lane: int) -> Floats:
        """Return a uniform for each creator and this day, shape (n_creators,)."""
        keys = world_keys(self._world_seed, DAY, np.arange(len(self.is_active)))
        return np.asarray(uniforms(keys, np.full(len(keys), self.stock.day), lane, 1)[0])

    def draw_creator(self, serial: Ints) -> Ints:
        """Return the creators of items while all are active, drawn by their shares, shape (n,)."""
        keys = world_keys(self._world_seed, ITEM, serial)
        who = uniforms(keys, np.full(len(keys), BIRTH), _CREATOR_LANE, 1)[0]
        return pick(np.cumsum(self.creators.share), who)

    def draw(self, serial: Ints, creator: Ints, published: Floats) -> Stock:
        """Return items without exposures, as a stock of their own; `published` is in days."""
        uploads, creators, model = self._uploads, self.creators, self._model
        keys = world_keys(self._world_seed, ITEM, serial)
        cards = np.full(len(keys), BIRTH)
        z = normals(keys, cards, 0, uploads.n_dims + 3)
        own, attraction, length = z[-3:]
        shared = uploads.creator_effect
        effect_sds = np.sqrt(shared) * creators.effect[creator] + np.sqrt(1.0 - shared) * own
        focus = uploads.creator_focus
        vectors = _unit(
            focus * creators.direction[:, creator]
            + np.sqrt(1.0 - focus * focus) * _unit(z[: uploads.n_dims])
        )
        duration_s = np.exp(uploads.log_duration_mu + uploads.log_duration_sd * length)
        is_local = uniforms(keys, cards, _LOCAL_LANE, 1)[0] < uploads.local_share
        is_local &= serial % uploads.n_items >= ALWAYS_GLOBAL
        return Stock(
            day=0,
            serial=serial,
            creator=creator,
            market=np.where(is_local, creators.home[creator], EVERYWHERE),
            vectors=vectors,
            columns=item_columns(
                model,
                np.clip(duration_s, uploads.least_s, uploads.most_s),
                model.priors.effect_sd * effect_sds,
                np.asarray(bait_of(effect_sds, attraction)),
                creators.language[creator],
                topics(vectors.T),
            ),
            published=published,
            counts=np.zeros((4, len(serial))),
            keys=keys,
        )

    def _history(self, items: Stock) -> Floats:
        """Return the counts of the first day's items, shape (4, n).

        Exposures are log-normal and grow through the first week; their valid plays, long views and
        likes are binomial, by the normal approximation, among users of mean taste.
        """
        z = normals(items.keys, np.full(items.n, BIRTH), _HISTORY_LANE, 4)
        grown = np.minimum(-items.published / 7.0, 1.0)
        exposures = np.floor(grown * np.exp(_HISTORY_MU + _HISTORY_SD * z[0]))
        nobody = np.zeros(items.n)
        exact = chances(self._model.rates, items.columns[APPEAL], terms_of(items.columns), nobody)
        counts = [exposures]
        for chance, noise in zip(
            (exact.valid_play, exact.long_view, exact.like), z[1:], strict=True
        ):
            mean = exposures * chance
            counts.append(
                np.clip(np.round(mean + np.sqrt(mean * (1 - chance)) * noise), 0, exposures)
            )
        return np.array(counts)


def poisson(rates: Floats, uniform: Floats) -> Ints:
    """Return Poisson counts by inversion, shape (m,); rates in [0, 700), uniforms in [0, 1)."""
    counts = np.zeros(len(rates), dtype=np.int64)
    probability = np.exp(-rates)
    cumulated = probability.copy()
    for k in range(1, 10_000):
        beyond = (uniform >= cumulated) & (probability > 0.0)
        if not beyond.any():
            break
        counts += beyond
        probability = probability * rates / k
        cumulated += probability
    return counts


def _exchange(stock: Stock, new: Stock) -> Stock:
    """Return a stock in which new items replace the oldest."""
    rows = new.serial % stock.n

    def put(old: NDArray[Any], fresh: NDArray[Any]) -> NDArray[Any]:
        both = old.copy()
        both[..., rows] = fresh
        return both

    return Stock(
        stock.day,
        *(
            put(getattr(stock, name), getattr(new, name))
            for name in (
                "serial",
                "creator",
                "market",
                "vectors",
                "columns",
                "published",
                "counts",
                "keys",
            )
        ),
    )


def _unit(vectors: Floats) -> Floats:
    """Return vectors of unit length, shape (n_dims, n)."""
    return np.asarray(vectors / np.sqrt(sum_rows(vectors * vectors)))
