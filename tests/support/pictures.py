"""Takes the pictures of the page for the documents: `make pictures`, Chromium, the real app.

Without arguments the pictures in `docs/` are made anew. With a folder, every state goes there: the
first card, after forty, why, share, an empty feed and a stopped server, on a phone and on a
desktop, dark and light.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from browsing import Site, open_feed, open_site
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from env.world.generated import catalogue
from env.world.titles import dressed
from serve.config import Config, DataSettings
from serve.jobs.import_data import import_items

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
DOCS = Path(__file__).parents[2] / "docs"
LIKED = "pets"
CARDS = 40
WATCHED_MS, SKIPPED_MS = 12_000, 1_200

IS_ANOTHER = "last => document.querySelector('#now').innerText !== last"

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = ("dark", "light")
SCREENS = {"phone": (390, 844), "desktop": (1280, 800)}
IN_DOCS = {
    ("learned", "phone", "dark"): "page",
    ("why", "desktop", "dark"): "page-desktop",
    ("learned", "desktop", "light"): "page-light",
}


def main() -> None:
    """Make the pictures."""
    everything = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with _demo(Path(folder) / "demo") as demo, open_site(Path(folder) / "empty", []) as empty:
            for screen, theme in product(SCREENS, THEMES):
                for state, take in STATES.items():
                    name = IN_DOCS.get((state, screen, theme))
                    if everything is None and name is None:
                        continue
                    file = everything / f"{state}-{screen}-{theme}.png" if everything else None
                    site = empty if state == "empty" else demo
                    _take(browser, site, take, screen, theme, file or DOCS / f"{name}.png")
        browser.close()


@contextmanager
def _demo(folder: Path) -> Iterator[Site]:
    """Serve the generated catalogue as a first run does."""
    now_ms = time.time_ns() // 1_000_000
    config = Config(data=DataSettings(folder=str(folder)))
    import_items(config, dressed(catalogue(1, 2_000, now_ms)), now_ms)
    with open_site(folder, []) as site:
        yield site


def _take(
    browser: Browser,
    site: Site,
    take: Callable[[Page, Site, str], None],
    screen: str,
    theme: Theme,
    file: Path,
) -> None:
    width, height = SCREENS[screen]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        has_touch=screen == "phone",
        is_mobile=screen == "phone",
        locale="en-US",
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = context.new_page()
    page.clock.install()
    take(page, site, f"{screen}-{theme}")
    page.clock.run_for(3_000)  # toasts have gone
    page.wait_for_timeout(600)  # in the page's time: its transitions have ended
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file)
    context.close()
    Image.open(file).convert("RGB").save(file, optimize=True)
    sys.stdout.write(f"{file}: {file.stat().st_size / 1024:.0f} KiB\n")


def _first(page: Page, site: Site, user: str) -> None:
    open_feed(page, site, f"first-{user}")


def _learned(page: Page, site: Site, user: str) -> None:
    """Swipe as somebody who likes one topic, and stop at a card of it."""
    open_feed(page, site, f"learned-{user}")
    for card in range(2 * CARDS):
        is_liked = f"#{LIKED}" in page.locator(".card.is-current .tags").inner_text()
        if is_liked and card >= CARDS:
            return
        page.clock.run_for(WATCHED_MS if is_liked else SKIPPED_MS)
        if is_liked:
            page.keyboard.press("l")
        title = page.locator("#now").inner_text()
        page.keyboard.press("j")
        page.wait_for_function(IS_ANOTHER, arg=title)


def _why(page: Page, site: Site, user: str) -> None:
    _learned(page, site, f"why-{user}")
    if page.locator("#panel").is_hidden():
        page.keyboard.press("w")


def _share(page: Page, site: Site, user: str) -> None:
    open_feed(page, site, f"share-{user}")
    page.keyboard.press("s")


def _empty(page: Page, site: Site, user: str) -> None:
    page.goto(f"{site.address}/?user={user}")
    page.locator("#status.is-whole").wait_for()


def _stopped(page: Page, site: Site, user: str) -> None:
    page.route("**/v1/feed", lambda route: route.abort())
    _empty(page, site, user)


STATES = {
    "first": _first,
    "learned": _learned,
    "why": _why,
    "share": _share,
    "empty": _empty,
    "stopped": _stopped,
}

if __name__ == "__main__":
    main()
