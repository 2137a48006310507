"""Pages in the user's own language: the cap, its widening, and where supply is small."""

from collections.abc import Iterable

import msgspec
import pytest
from crowds import clips
from histories import START_MS

from env.interface import page_seed
from env.items.content import static_block
from env.pages.records import Blocks
from env.pages.verify import audit_page
from env.pages.verify_many import DrawAudit
from env.records import FeedbackRecord, ItemRecord, PageRecord, pack_halves
from env.users.fold import fold
from env.users.state import UserState, newcomer
from env.vocabulary import Item, PageId, Profile, SessionId, UserKey, decision_id
from policies.slots.rules import OWN_LANGUAGE
from serve.config import Config, FeedSettings
from serve.feed.pipeline import Pipeline
from serve.learn.served import ServingModel, initial_serving_model
from serve.learn.settings import vowpal_args
from serve.wire.feed import FeedRequest

KEY, SIZE = b"languages", 10
SPOKEN = ("en", "es", "zxx")
"""Languages of the items in turn, so that a third is in none."""


def records(spoken: Iterable[str], **fields: object) -> list[ItemRecord]:
    """Return an item in each of these languages, shown everywhere, each by another creator."""
    languages = list(spoken)
    found = []
    for k, (clip, language) in enumerate(zip(clips(len(languages)), languages, strict=True)):
        changes = {"language": language, "markets": (), "country": "", "creator": f"c{k}"}
        item = msgspec.convert({**msgspec.to_builtins(clip), **changes, **fields}, Item)
        found.append(ItemRecord(item.item_id, START_MS, item, pack_halves(static_block(item))))
    return found


class Served:
    """A pipeline over some items, and a user in front of it."""

    def __init__(self, items: list[ItemRecord], profile: Profile, share: float = 0.05) -> None:
        config = Config(feed=FeedSettings(foreign_share=share))
        first: ServingModel = initial_serving_model(vowpal_args(config), config.audiences)
        self.pipeline = Pipeline(config, draw_key=KEY, served=first)
        self.blocks = Blocks()
        for record in items:
            self.pipeline.catalogue.apply(record)
            self.blocks.fold(record)
        self.profile = profile
        self.state = newcomer(profile)
        self.pages: list[PageRecord] = []

    def page(self, played: tuple[str, ...] = ()) -> PageRecord:
        """Return a page after the user played the cards in these languages and left the others."""
        n = len(self.pages)
        now_ms = START_MS + n * 60_000
        page = self.pipeline.page(
            FeedRequest("ann", size=SIZE),
            UserKey("ann"),
            self.state,
            session=SessionId("s"),
            page_id=PageId(f"p{n}"),
            now_ms=now_ms,
        )
        assert page is not None
        self.pages.append(page)
        self._fold(page)
        for drawn, card in zip(page.drawn, page.cards, strict=True):
            self._fold(
                FeedbackRecord(
                    f"e{drawn.slot}",
                    decision_id(page.page_id, drawn.slot),
                    now_ms + 1_000 * (1 + drawn.slot),
                    page.user,
                    page.session,
                    "dwell",
                    60.0 if card.language in played else 0.1,
                )
            )
        return page

    def forget(self) -> None:
        """Let another newcomer come in place of the user."""
        self.state = newcomer(self.profile)

    def _fold(self, record: PageRecord | FeedbackRecord) -> None:
        state: UserState | None = fold(self.state, record)
        assert state is not None
        self.state = state


def foreign(page: PageRecord, own: str = "en") -> int:
    return sum(card.language not in ("", own) for card in page.cards)


def english(language: str = "en", country: str = "US") -> Profile:
    return Profile(country=country, language=language)


def test_who_plays_their_own_language_meets_another_on_one_card_in_ten_then_in_twenty() -> None:
    served = Served(records(SPOKEN[k % 3] for k in range(600)), english())
    first, later = [], []
    for _ in range(12):
        served.forget()
        pages = [served.page(("en", "")) for _ in range(4)]
        first += [foreign(page) for page in pages[:2]]
        later += [foreign(page) for page in pages[2:]]
        assert all(page.degraded == "" for page in pages)
    assert set(first[::2]) == {1}
    assert set(later) <= {0, 1}
    assert sum(later) / len(later) < 0.9
    assert any(card.language == "" for page in served.pages for card in page.cards)


def test_who_plays_another_language_gets_it_within_thirty_cards_and_loses_it_as_fast() -> None:
    served = Served(records(SPOKEN[k % 3] for k in range(900)), english())
    rising = [foreign(served.page(("es",))) for _ in range(4)]
    assert rising[0] == 1
    assert rising[3] >= 6
    falling = [foreign(served.page(("en",))) for _ in range(4)]
    assert falling[3] <= 3


@pytest.mark.parametrize(("language", "share"), [("", 0.05), ("en", 1.0)])
def test_without_a_language_or_with_the_rule_off_no_language_comes_first(
    language: str, share: float
) -> None:
    served = Served(records(SPOKEN[k % 3] for k in range(300)), english(language), share)
    shown = [card.language for _ in range(8) for card in served.page().cards]
    counts = {name: shown.count(name) for name in ("en", "es")}
    assert min(counts.values()) > 0.3 * max(counts.values())
    assert all({rule.name for rule in page.rules} <= {"open"} for page in served.pages)


def test_a_small_supply_is_shown_first_and_then_filled_and_the_page_says_so() -> None:
    served = Served(records(["fr"] * 14 + ["en"] * 200), english("fr"))
    first, second = served.page(("fr",)), served.page(("fr",))
    assert foreign(first, "fr") <= 1
    assert first.degraded == ""
    assert foreign(second, "fr") >= 5
    assert second.degraded == f"gave way: {OWN_LANGUAGE}"


def test_the_market_s_hard_rules_hold_while_others_fill_the_page() -> None:
    bound = records(["en"] * 100, markets=("GB",))
    free = records(["th"] * 100 + ["en"] * 130)[100:]
    served = Served([*bound, *free], english("th", "TH"))
    allowed = {record.item_id for record in free}
    for _ in range(10):
        assert {*served.page().candidates} <= allowed


def test_every_such_page_is_redrawn_exactly_with_the_probabilities_that_it_says() -> None:
    served = Served(records(SPOKEN[k % 3] for k in range(600)), english())
    audit, policy = DrawAudit(), served.pipeline.served.policy
    names: set[str] = set()
    for n in range(60):
        page = served.page(("es",) if n % 10 < 5 else ("en",))
        names.update(rule.name for rule in page.rules)
        drawn = served.blocks.page(page)
        assert audit_page(drawn, policy, page_seed(KEY, page.page_id)) == []
        audit.add(drawn, policy)
    assert names >= {"open", "liked_language", "other_language"}
    assert audit.violations() == []
