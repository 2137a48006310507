"""The page at `/`: its files, and headless Chromium that swipes through the real app."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import (
    Recorder,
    Site,
    hide,
    make_items,
    open_feed,
    open_site,
    put_items,
    show,
    shown_title,
    swipe,
)
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from waiting import DEADLINE_S

from env.vocabulary import CreatorId, Item, ItemId
from env.world.generated import TOPICS
from policies.candidates.retrieval import SOURCES
from serve.http.api import WEB

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
HOSTILE = '<img src="x" onerror="document.title=1"><script>document.title=2</script>'


# --- the files ---


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for path in WEB.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://\w|@import|url\((?!#)", text), path.name


def test_the_page_needs_no_inline_script_or_style() -> None:
    html = (WEB / "index.html").read_text("utf-8")
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\s(style|on\w+)=", html)


def test_every_file_that_the_page_names_is_there() -> None:
    html = (WEB / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:src|href)="web/([^"]+)"', html))
    for path in WEB.glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]+)"', path.read_text("utf-8")))
    assert named | {"index.html"} == {path.name for path in WEB.iterdir()}


# --- the real app and the browser ---


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("web"), make_items(60)) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def recorder(site: Site) -> Recorder:
    return site.record()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, locale="ms-MY"
    )
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not complain: no error, no violation of the content policy."""
    complaints: list[str] = []
    opened = context.new_page()
    opened.set_default_timeout(DEADLINE_S * 1000)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    yield opened
    assert [text for text in complaints if "Failed to load resource" not in text] == []


# --- swiping ---


def test_a_swipe_ends_one_card_and_begins_the_next(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "ann")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 1)
    page.keyboard.press("ArrowDown")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 2)
    recorder.wait_for(lambda: len(recorder.events("dwell")) == 1)
    first, second = recorder.card(0, 0), recorder.card(0, 1)
    impressions = [event.decision_id for event in recorder.events("impression")]
    (dwell,) = recorder.events("dwell")
    assert impressions == [first.decision_id, second.decision_id]
    assert dwell.decision_id == first.decision_id
    assert dwell.value is not None
    assert dwell.value > 0.0
    assert all(not answer.refused for _, answer in recorder.posts)
    expect(shown_title(page)).to_have_text(second.item.title)


def test_every_way_of_swiping_moves_by_one_card_and_back(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "cat")
    for way in ("wheel", "touch", "j", "Space", "button"):
        for step, slot in ((1, 1), (-1, 0)):
            swipe(page, way, step)
            expect(shown_title(page)).to_have_text(recorder.card(0, slot).item.title)


def test_the_next_page_comes_before_the_last_three_cards_are_over(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "ben")
    for _ in range(5):
        page.keyboard.press("j")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 6)
    assert len(recorder.feeds) == 1
    page.keyboard.press("j")
    recorder.wait_for(lambda: len(recorder.feeds) == 2)
    for _ in range(3):
        page.keyboard.press("j")
    expect(page.locator(".card")).to_have_count(3)  # the second page has come
    for _ in range(5):
        page.keyboard.press("j")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 15)
    served = [card for _, answer in recorder.feeds for card in answer.items]
    assert [e.decision_id for e in recorder.events("impression")] == [
        card.decision_id for card in served[:15]
    ]
    assert len({card.item_id for card in served}) == len(served)
    (first, _), (second, _) = recorder.feeds
    assert first.request_id != second.request_id
    assert first.session_id == second.session_id
    assert (first.user_id, first.scene.country, first.scene.language) == ("ben", "MY", "ms")
    expect(page.locator(".card")).to_have_count(3)


# --- what a user does ---


def test_a_key_tells_what_it_switches_and_a_share_once(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "dan")
    kinds = {"l": "like", "b": "save", "s": "share", "f": "follow"}
    for key in (*kinds, *kinds, *kinds):
        page.keyboard.press(key)
    for kind in kinds.values():
        button = page.locator(f"#actions [data-action={kind}]")
        expect(button).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("j")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 2)
    shown = recorder.card(0, 0).decision_id
    assert [event.decision_id for event in recorder.events("share")] == [shown]
    for kind, undone in (("like", "unlike"), ("save", "unsave"), ("follow", "unfollow")):
        assert [event.decision_id for event in recorder.events(kind)] == 2 * [shown]
        assert [event.decision_id for event in recorder.events(undone)] == [shown]


def test_a_like_and_a_follow_can_be_undone_and_last_beyond_the_visit(
    page: Page, tmp_path: Path
) -> None:
    like = page.locator("#actions [data-action=like]")
    follow = page.locator("#actions [data-action=follow]")
    with open_site(tmp_path, make_items(1)) as site:
        recorder = site.record()
        open_feed(page, site, "una")
        for state in ("true", "false"):
            for pressed in (like, follow):
                pressed.click()
                expect(pressed).to_have_attribute("aria-pressed", state)
        like.click()
        open_feed(page, site, "una")  # the only item comes again
        expect(like).to_have_attribute("aria-pressed", "true")
        expect(follow).to_have_attribute("aria-pressed", "false")
        told = {
            kind: len(recorder.events(kind)) for kind in ("like", "unlike", "follow", "unfollow")
        }
        assert told == {"like": 2, "unlike": 1, "follow": 1, "unfollow": 1}
        assert all(not answer.refused for _, answer in recorder.posts)
        open_feed(page, site, "uwe")
        expect(like).to_have_attribute("aria-pressed", "false")


def test_a_shared_link_opens_the_card_before_the_feed(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "pia")
    page.keyboard.press("s")
    link = page.locator("#link").inner_text()
    shared = recorder.card(0, 0)
    assert link == f"{site.address}/?card={shared.item_id}"
    page.goto("about:blank")
    recorder.wait_for(lambda: len(recorder.events("leave")) == 1)
    again = site.record()
    page.goto(f"{link}&user=quin")
    expect(shown_title(page)).to_have_text(shared.item.title)
    again.wait_for(lambda: len(again.feeds) == 1)
    rest = [card for card in again.feeds[0][1].items if card.item_id != shared.item_id]
    page.keyboard.press("l")  # it was not drawn, so there is nothing to tell about
    page.keyboard.press("j")
    expect(shown_title(page)).to_have_text(rest[0].item.title)
    again.wait_for(lambda: len(again.events("impression")) == 1)
    assert again.events("impression")[0].decision_id == rest[0].decision_id
    assert again.events("like") == []


def test_a_link_to_an_item_that_is_gone_opens_the_feed(page: Page, site: Site) -> None:
    page.goto(f"{site.address}/?user=ray&card=never-was")
    shown_title(page).wait_for()
    expect(page.locator("#toast")).to_have_text("That video is not here any more")


def test_not_interested_goes_on_to_the_next_card(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "eve")
    page.keyboard.press("x")
    recorder.wait_for(lambda: len(recorder.events("not_interested")) == 1)
    assert recorder.events("not_interested")[0].decision_id == recorder.card(0, 0).decision_id
    expect(shown_title(page)).to_have_text(recorder.card(0, 1).item.title)


def test_a_button_and_a_double_tap_like(page: Page, site: Site, recorder: Recorder) -> None:
    open_feed(page, site, "fay")
    page.locator("#actions [data-action=like]").click()
    page.keyboard.press("j")
    page.mouse.dblclick(160, 300)
    recorder.wait_for(lambda: len(recorder.events("like")) == 2)
    liked = [event.decision_id for event in recorder.events("like")]
    assert liked == [recorder.card(0, slot).decision_id for slot in (0, 1)]


# --- what is reported, and when ---


def test_dwell_is_reported_every_ten_seconds_and_stands_still_while_hidden(
    page: Page, site: Site, recorder: Recorder
) -> None:
    page.clock.install()
    open_feed(page, site, "gil")
    page.clock.run_for(12_000)
    recorder.wait_for(lambda: len(recorder.events("dwell")) == 1)
    hide(page)
    recorder.wait_for(lambda: len(recorder.events("dwell")) == 2)
    page.clock.run_for(100_000)
    show(page)
    page.keyboard.press("j")
    recorder.wait_for(lambda: len(recorder.events("dwell")) == 3)
    first, second, third = (event.value or 0.0 for event in recorder.events("dwell"))
    assert 10.0 <= first <= second <= third < 100.0
    assert len({event.decision_id for event in recorder.events("dwell")}) == 1


def test_going_away_ends_the_card(page: Page, site: Site, recorder: Recorder) -> None:
    open_feed(page, site, "hal")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 1)
    page.goto("about:blank")
    recorder.wait_for(lambda: len(recorder.events("leave")) == 1)
    left = {recorder.events(kind)[0].decision_id for kind in ("impression", "dwell", "leave")}
    assert left == {recorder.card(0, 0).decision_id}


def test_events_of_a_broken_connection_come_once_it_is_back(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "ida")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 1)
    page.context.set_offline(True)
    page.keyboard.press("l")
    expect(page.locator("#status")).to_contain_text("Offline")
    page.keyboard.press("j")
    assert recorder.events("like") == []
    page.context.set_offline(False)
    recorder.wait_for(lambda: len(recorder.events("impression")) == 2)
    assert len(recorder.events("like")) == 1
    assert sum(answer.duplicates for _, answer in recorder.posts) == 0
    expect(page.locator("#status")).to_be_hidden()


def test_events_whose_answer_was_lost_are_sent_again_under_the_same_id(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "jon")
    recorder.wait_for(lambda: len(recorder.events("impression")) == 1)
    recorder.answers_to_lose = 1
    page.keyboard.press("l")
    recorder.wait_for(lambda: any(answer.duplicates for _, answer in recorder.posts))
    (lost, first), (again, second) = recorder.posts[-2:]
    assert lost == again
    assert (first.accepted, first.duplicates) == (1, 0)
    assert (second.accepted, second.duplicates) == (0, 1)


# --- what is shown ---


def test_the_panel_shows_the_decision_as_it_was_served(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "kim")
    expect(page.locator("#panel")).to_be_hidden()
    page.keyboard.press("w")
    card = recorder.card(0, 0)
    name, version = card.policy.split("@")
    shown = {
        "reason": card.reason,
        "policy": name,
        "version": version,
        "decision": card.decision_id.rpartition(".")[0],
    }
    for part, text in shown.items():
        expect(page.locator(f"[data-show={part}]")).to_have_text(text)
    assert float(page.locator("[data-show=exact]").inner_text()) == card.propensity
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()


def test_who_a_user_is_stays_with_the_browser(page: Page, site: Site, recorder: Recorder) -> None:
    open_feed(page, site, "lea")
    for address in ("", "?user=max", ""):
        page.goto(f"{site.address}/{address}")
        shown_title(page).wait_for()
    assert [asked.user_id for asked, _ in recorder.feeds] == ["lea", "lea", "max", "max"]


def test_what_an_item_says_is_text(page: Page, tmp_path: Path) -> None:
    item = Item(
        item_id=ItemId(HOSTILE),
        creator=CreatorId(HOSTILE),
        title=HOSTILE,
        tags=("<b>tag</b>",),
        media="javascript:document.title=3",
    )
    with open_site(tmp_path, [item]) as site:
        open_feed(page, site, "mia")
        expect(shown_title(page)).to_have_text(HOSTILE)
        expect(page.locator(".is-current .tags")).to_have_text("#<b>tag</b>")
        assert page.locator(".card img, .card script, .card video").count() == 0
        assert page.title() == "nextswipe"


def test_a_card_with_a_product_has_a_button_that_is_heard_of(page: Page, tmp_path: Path) -> None:
    sold = [
        Item(ItemId("cup"), title="Cup", products={"MY": "https://shop.example/cup?a=1"}),
        Item(ItemId("elsewhere"), title="Elsewhere", products={"GB": "https://shop.example/uk"}),
        Item(ItemId("script"), title="Script", products={"MY": "javascript:document.title=4"}),
    ]
    with open_site(tmp_path, sold) as site:
        recorder = site.record()
        open_feed(page, site, "oda")
        page.context.route("https://shop.example/**", lambda route: route.fulfill(body="a shop"))
        shown: dict[str, str | None] = {}
        for slot in range(3):
            expect(shown_title(page)).to_have_text(recorder.card(0, slot).item.title)
            link = page.locator(".card.is-current .product")
            shown[shown_title(page).inner_text()] = (
                link.get_attribute("href") if link.is_visible() else None
            )
            if link.is_visible():
                with page.expect_popup() as opened:
                    link.click()
                assert opened.value.url == "https://shop.example/cup?a=1"
            page.keyboard.press("j")
        assert shown == {"Cup": "https://shop.example/cup?a=1", "Elsewhere": None, "Script": None}
        recorder.wait_for(lambda: len(recorder.events("product_click")) == 1)
        clicked = recorder.events("product_click")[0].decision_id
        cards = {card.item_id: card for card in recorder.feeds[0][1].items}
        assert clicked == cards[ItemId("cup")].decision_id
        assert page.title() == "nextswipe"


def test_nothing_is_said_of_the_past_of_a_stranger(page: Page, site: Site) -> None:
    open_feed(page, site, "sol")
    badges = set()
    for _ in range(10):
        badges.add(page.locator(".card.is-current .badge").inner_text())
        page.keyboard.press("j")
    assert badges.isdisjoint({"For you", "Right now", "Your topic", "Liked alike", ""})


def test_every_source_of_the_default_feed_has_words() -> None:
    text = (WEB / "words.js").read_text("utf-8")
    for source in SOURCES:
        assert f"  {source.name}: [" in text, source.name


def test_the_page_says_what_it_has_learned(page: Page, site: Site) -> None:
    open_feed(page, site, "tim")
    expect(page.locator("#taste")).to_be_hidden()
    topic = page.locator(".card.is-current .tags").inner_text().removeprefix("#")
    page.keyboard.press("l")
    expect(page.locator("#taste-topic")).to_have_text(topic)
    for _ in range(12):
        page.keyboard.press("j")
        page.locator(".card.is-current .title").wait_for()
    expect(page.locator("#taste-count")).to_contain_text("in your first 10")


def test_a_picture_is_shown_as_media_also_where_its_address_does_not_say_so(
    page: Page, tmp_path: Path
) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="50"/>'
    media = [f"https://pictures.example/{name}" for name in ("a.svg?v=1", "b")]
    items = [Item(ItemId(address[-1]), title=address, media=address) for address in media]
    for address in media:
        page.route(address, lambda route: route.fulfill(body=drawing, content_type="image/svg+xml"))
    with open_site(tmp_path, items) as site:
        open_feed(page, site, "val")
        for _ in media:
            image = page.locator(".card.is-current img.film.is-upright")
            expect(image).to_have_attribute("src", shown_title(page).inner_text())
            page.keyboard.press("j")


def test_next_and_previous_are_there_for_a_screen_reader_on_a_phone(
    page: Page, site: Site, recorder: Recorder
) -> None:
    open_feed(page, site, "wim")
    for name, slot in (("Next card", 1), ("Previous card", 0)):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        expect(shown_title(page)).to_have_text(recorder.card(0, slot).item.title)


def test_the_theme_follows_the_system_until_it_is_chosen(page: Page, site: Site) -> None:
    page.emulate_media(color_scheme="light")
    open_feed(page, site, "xan")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.locator("#theme").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")


def test_every_topic_of_the_generated_catalogue_has_a_scene(page: Page, site: Site) -> None:
    open_feed(page, site, "yan")
    drawn = page.evaluate(
        """async (topics) => {
            const { makePoster } = await import("/web/poster.js");
            const make = (topic) => makePoster({ item_id: "a", tags: [topic, `${topic}/live`] });
            return topics.map((topic) => [make(topic).localName, make(topic).outerHTML]);
        }""",
        [*TOPICS, "unheard-of"],
    )
    assert [name for name, _ in drawn] == ["svg"] * len(TOPICS) + ["canvas"]
    assert len({picture for _, picture in drawn}) == len(TOPICS) + 1
    assert all("NaN" not in picture and "undefined" not in picture for _, picture in drawn)


def test_a_server_that_does_not_answer_is_waited_for(page: Page, site: Site) -> None:
    page.route("**/v1/feed", lambda route: route.abort())
    page.goto(f"{site.address}/?user=zoe")
    expect(page.locator("#status-title")).to_have_text("The feed is not answering")
    page.unroute("**/v1/feed")
    page.get_by_role("button", name="Try again").click()
    shown_title(page).wait_for()
    expect(page.locator("#status")).to_be_hidden()


def test_a_feed_without_cards_says_so_and_fills_when_there_are_some(
    page: Page, tmp_path: Path
) -> None:
    with open_site(tmp_path, []) as site:
        page.goto(f"{site.address}/?user=nia")
        expect(page.locator("#status")).to_contain_text("no item may be shown here")
        put_items(site.address, make_items(3))
        shown_title(page).wait_for()
        expect(page.locator("#status")).to_be_hidden()


def test_a_cat_is_drawn_where_the_title_says_so(page: Page, site: Site) -> None:
    open_feed(page, site, "abe")
    pictures = page.evaluate(
        """async (titles) => {
            const { makePoster } = await import("/web/poster.js");
            const ids = Array.from({ length: 20 }, (_, k) => `clip-${k}`);
            const make = (item_id, title) => makePoster({ item_id, title, tags: ["pets"] });
            return titles.map((title) => ids.map((id) => make(id, title).innerHTML));
        }""",
        ["Kucing oren", "A puppy's first snow"],
    )
    yarn, tongue = "#e0526d", "#f2788f"
    assert [all(yarn in drawn for drawn in some) for some in pictures] == [True, False]
    assert [all(tongue in drawn for drawn in some) for some in pictures] == [False, True]
