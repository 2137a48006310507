"""The reference at `/docs`: its files, and Chromium that reads and tries it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Site, make_items, open_site
from playwright.sync_api import Page, expect, sync_playwright
from servers import Server, ask, serving
from waiting import DEADLINE_S

from serve.http.api import REFERENCE
from serve.http.endpoints import OPERATIONS

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("reference"), make_items(5)) as opened:
        yield opened


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """The reference, which must not complain: no error, no violation of the content policy."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        opened = browser.new_page()
        opened.set_default_timeout(DEADLINE_S * 1000)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        opened.goto(f"{site.address}/docs")
        opened.locator("main:not([aria-busy])").wait_for()
        yield opened
        browser.close()
    assert [text for text in complaints if "Failed to load resource" not in text] == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


async def test_the_reference_and_its_files_are_served(server: Server) -> None:
    page = await ask(server.app, "GET", "/docs")
    assert page.status == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="(/docs/[^"]+|/web/[^"]+)"', page.body.decode())
    assert len(named) == 3
    for path in named:
        assert (await ask(server.app, "GET", path)).status == 200, path


def test_the_reference_loads_nothing_from_elsewhere() -> None:
    for path in REFERENCE.iterdir():
        assert not re.search(r"https?://\w|@import|url\(", path.read_text("utf-8")), path.name


def test_the_reference_shows_every_operation(page: Page) -> None:
    shown = page.locator("article").evaluate_all("all => all.map((one) => one.id)")
    assert shown != []
    assert sorted(shown) == sorted(operation.name for operation in OPERATIONS)
    feed = page.locator("#feed")
    expect(feed.get_by_text("integer, 1 to 50")).to_be_visible()
    expect(feed.get_by_text("Number of cards wanted. Default: 10.")).to_be_visible()


def test_a_request_can_be_tried_from_the_reference(page: Page) -> None:
    feed = page.locator("#feed")
    feed.get_by_text("Try it on this server").click()
    feed.locator("textarea").fill('{"user_id": "me", "scene": {"country": "MY"}}')
    feed.get_by_role("button", name="Send").click()
    expect(feed.locator("pre")).to_contain_text('"decision_id"')
    item = page.locator("#get_item")
    item.get_by_text("Try it on this server").click()
    item.locator("input").fill("no/such item")
    item.get_by_role("button", name="Send").click()
    expect(item.locator("pre")).to_contain_text("404")
