"""The languages of newcomers' first pages, and of users who play another language than theirs.

A feed is warmed up by simulated users, so that its policy has learned; then newcomers of each
market ask for pages and answer by a rule about languages that is known exactly: some never play
another language, some play any, some hardly play their own. Pages are drawn by the real pipeline,
in process. Shares and rejected alternatives: `docs/decisions/languages.md`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from env.items.content import static_block
from env.records import FeedbackKind, ItemRecord, LogLine, PageRecord, Record, pack_halves
from env.users.state import newcomer
from env.vocabulary import Bools, Feedback, Item, ItemId, Profile, UserKey, primary_language
from env.world import generated, responses
from env.world.user import SimulatedUser, simulated_users
from env.world.world import make_world
from policies.candidates.markets import PRESETS
from serve.config import Config
from serve.feed.pipeline import Pipeline
from serve.learn.fold import LearnerState
from serve.learn.served import initial_serving_model
from serve.learn.settings import learning_args, vowpal_args
from tests.studies.served_world.users import Person, Said, report
from tests.studies.served_world.world import CARD_MS, DRAW_KEY, START_MS, publish, serve

PAGE = 10
FIRST_PAGES = 3
FOLLOWED = slice(20, 30)
"""The cards over which it counts whether the feed follows what a user plays."""

DWELL_S = 40.0
"""Of a card that is played; a card that is not is left at once."""

IMPORTED_SHARES = {
    "en": 0.34,
    "es": 0.17,
    "id": 0.12,
    "th": 0.09,
    "vi": 0.08,
    "zh": 0.06,
    "ms": 0.04,
    "tl": 0.04,
    "ta": 0.02,
    "zxx": 0.04,
}
"""Languages of the catalogue that stands for an imported one: the same in every market, and tied to
no country, topic or creator."""


@dataclass(frozen=True, slots=True)
class Habit:
    """The chance that a user of a kind plays a card, by its language."""

    name: str
    own: float  # of their own language, or without words
    foreign: float


NEVER, ANY, FOREIGN = HABITS = (
    Habit("never", 0.5, 0.0),
    Habit("any", 0.5, 0.5),
    Habit("foreign", 0.05, 0.8),
)


class LanguageServer:
    """A pipeline and the learner behind it, over a catalogue of items."""

    def __init__(self, items: Sequence[Item], config: Config) -> None:
        """Put the items, which are not new to the public."""
        first = initial_serving_model(vowpal_args(config), config.audiences)
        self.pipeline = Pipeline(config, draw_key=DRAW_KEY, served=first)
        self.languages = {item.item_id: primary_language(item.language) for item in items}
        self.now_ms = START_MS
        self._learning = LearnerState(learning_args(config))
        self._version = 0
        records = [_put(item) for item in items]
        for record in records:
            self.pipeline.catalogue.apply(record)
        self.learn(records)

    def learn(self, records: Sequence[Record]) -> None:
        """Fold records of the log, and draw from what they came to."""
        offset = self._learning.offset
        lines = [LogLine(offset + k, record) for k, record in enumerate(records, start=1)]
        self._learning.fold(lines)
        self._version += 1
        self.pipeline.swap(publish(self._learning, self._version))

    def page(self, user: Person) -> PageRecord | None:
        """Return the next page of a user; the clock moves on by as long as a page takes."""
        page = serve(self.pipeline, user, now_ms=self.now_ms, size=PAGE)
        self.now_ms += (PAGE + 1) * CARD_MS
        return page


def warm_up(server: LanguageServer, items: Sequence[Item], pages: int, seed: int) -> None:
    """Let generated users swipe this many pages, which the server learns from."""
    n_users = max(pages // 5, 1)
    accounts = generated.users(seed, n_users, START_MS)
    crowd = simulated_users(make_world(responses.generated(), items, seed), accounts)
    people = [_person(f"crowd-{k}", profile) for k, (_, profile) in enumerate(accounts)]
    rng, heard = np.random.default_rng([seed, 1]), list[Record]()
    for nth in range(pages):
        k = nth % n_users
        heard += _swipe(server, people[k], partial(_events, crowd[k], rng))
        if nth % 50 == 49:
            server.learn(heard)
            heard.clear()
    server.learn(heard)


def _events(
    user: SimulatedUser, rng: np.random.Generator, item_id: ItemId
) -> list[tuple[FeedbackKind, float]]:
    feedback: Feedback = user.answer(item_id, rng)
    reactions: tuple[FeedbackKind, ...] = ("like", "share", "not_interested")
    done: list[tuple[FeedbackKind, float]] = [(r, 0.0) for r in reactions if getattr(feedback, r)]
    return [("dwell", feedback.dwell_s), *done, ("leave", 0.0)]


def _swipe(
    server: LanguageServer,
    user: Person,
    answer: Callable[[ItemId], list[tuple[FeedbackKind, float]]],
) -> list[Said]:
    """Let a user swipe one page; return what the log says of it."""
    page = server.page(user)
    if page is None:
        return []
    said: list[Said] = [page]
    for k, card in enumerate(page.cards):
        at_ms = page.at_ms + (k + 1) * CARD_MS
        said += report(page, k, answer(card.item_id), at_ms)
    user.hear(said)
    return said


class MarketResult(msgspec.Struct, frozen=True):
    """The newcomers of one market.

    Attributes:
        supply: share of the catalogue in their own language or without words, mean over them.
        own_language: share of the cards of the first pages in these, of users who never play
            another language.
        foreign_21_30: share of other languages in cards 21 to 30, by habit.
        gave_way: share of the pages that said that the own language gave way.
        has_others: whether the catalogue has items in several languages of the market.
    """

    supply: float
    own_language: float
    foreign_21_30: dict[str, float]
    gave_way: float
    has_others: bool


def run_markets(server: LanguageServer, users: int, seed: int) -> dict[str, MarketResult]:
    """Serve newcomers of every market.

    Args:
        server: warmed up; its policy does not move.
        users: of each market and habit.
        seed: of their answers.
    """
    known = list(server.languages.values())
    results = {}
    for country in PRESETS:
        spoken = _languages_of(country, known)
        rng = np.random.default_rng([seed, *country.encode()])
        parts = {
            habit.name: [
                _cards_of(server, country, spoken[k % len(spoken)], habit, rng, k)
                for k in range(users)
            ]
            for habit in HABITS
        }
        first = [part.is_own[: PAGE * FIRST_PAGES] for part in parts[NEVER.name]]
        notes = [part.gave_way for part in parts[NEVER.name]]
        results[country] = MarketResult(
            supply=float(np.mean([np.isin(known, [one, ""]).mean() for one in spoken])),
            own_language=float(np.mean(first)),
            foreign_21_30={
                name: float(np.mean([~part.is_own[FOLLOWED] for part in some]))
                for name, some in parts.items()
            },
            gave_way=float(np.mean(notes)),
            has_others=len(spoken) > 1,
        )
    return results


@dataclass(frozen=True, slots=True)
class _Seen:
    is_own: Bools  # (n_cards,) whether a card is in the user's own language or without words
    gave_way: float  # share of the pages


def _cards_of(
    server: LanguageServer,
    country: str,
    language: str,
    habit: Habit,
    rng: np.random.Generator,
    k: int,
) -> _Seen:
    """Return the cards of a newcomer who asks for pages until `FOLLOWED` is over."""
    profile = Profile(country=country, language=language, registered_ms=server.now_ms)
    user = _person(f"{country}-{language}-{habit.name}-{k}", profile)
    is_own: list[bool] = []
    notes: list[bool] = []

    def answer(item_id: ItemId) -> list[tuple[FeedbackKind, float]]:
        own = server.languages[item_id] in ("", language)
        is_own.append(own)
        plays = rng.random() < (habit.own if own else habit.foreign)
        return [("dwell", DWELL_S if plays else 0.5), ("leave", 0.0)]

    while len(is_own) < FOLLOWED.stop:
        said = _swipe(server, user, answer)
        if not said:
            raise RuntimeError(f"expected a page for a newcomer of {country}, got none")
        page = said[0]
        notes.append(isinstance(page, PageRecord) and "language" in page.degraded)
    return _Seen(np.array(is_own[: FOLLOWED.stop]), float(np.mean(notes)))


def _languages_of(country: str, known: Sequence[str]) -> list[str]:
    """Return the languages of a market that the catalogue has items in."""
    return [name for name in PRESETS[country].languages if name in set(known)]


def imported(items: Sequence[Item], seed: int) -> list[Item]:
    """Return the items with languages drawn by `IMPORTED_SHARES`, shown everywhere."""
    rng = np.random.default_rng([seed, 7])
    names, shares = list(IMPORTED_SHARES), np.array(list(IMPORTED_SHARES.values()))
    drawn = rng.choice(names, len(items), p=shares / shares.sum())
    return [
        msgspec.structs.replace(item, language=str(name), country="", markets=())
        for item, name in zip(items, drawn, strict=True)
    ]


def catalogues(seed: int, n: int) -> Iterator[tuple[str, list[Item]]]:
    """Yield the generated catalogue, and one of fixed shares of languages."""
    items = generated.catalogue(seed, n, START_MS)
    yield "generated", items
    yield "imported", imported(items, seed)


def _person(name: str, profile: Profile) -> Person:
    return Person(UserKey(name), newcomer(profile), origin=f"home of {name}")


def _put(item: Item) -> ItemRecord:
    return ItemRecord(item.item_id, START_MS, item, pack_halves(static_block(item)))
