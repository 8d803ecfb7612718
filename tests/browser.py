"""A real Chromium for the tests: found, or installed with Debian's package manager when the machine allows it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.debian import found_or_installed

# Without the networking flags Chromium calls home at every start.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = "These tests need a Chromium: install the package chromium, or name one with CHROMIUM=/path/to/it."


def chromium() -> str:
    """The path of a Chromium; skips the test with one clear sentence when there is none and none can be installed."""
    found = found_or_installed(_installed, "chromium")
    if not found:
        pytest.skip(MISSING)
    return found


def _installed() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium; inside a container that runs as root its own sandbox cannot work."""
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield started
        finally:
            started.close()


def settle(page: Page) -> None:
    """Wait until Streamlit has finished the run that is under way and the browser has fetched every picture.

    A run that begins before its page's pictures were fetched takes them away: the browser then meets a 404.
    """
    page.wait_for_function(
        "() => { const app = document.querySelector('[data-testid=\"stApp\"]');"
        " return app && app.getAttribute('data-test-script-state') !== 'running'"
        " && !document.querySelector('[data-testid=\"stSpinner\"]')"
        " && Array.from(document.images).every(picture => picture.complete); }"
    )
