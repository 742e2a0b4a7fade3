"""The browser that tests look at pages with, and the reason they are skipped without one."""

import importlib.util
import shutil
from contextlib import contextmanager

import pytest

if importlib.util.find_spec("playwright") is None:
    pytest.skip("playwright is not installed", allow_module_level=True)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")]
PAPER, NIGHT = "rgb(250, 250, 248)", "rgb(18, 20, 23)"  # backgrounds of the pages


@contextmanager
def watched_pages(browser):
    """A function that opens an address; at the end no page has asked for more than it may or spoken on the console.

    Each may ask for addresses that begin with its `own`, and for what is written into the page or made in its memory.
    """
    contexts, complaints = [], []

    def open_page(address, own, *, width=1280, color_scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=color_scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith((own, "data:", "blob:")) else complaints.append(request.url),
        )
        page.set_default_timeout(8000)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def expect(locator):
    from playwright import sync_api

    return sync_api.expect(locator)


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@contextmanager
def open_chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
