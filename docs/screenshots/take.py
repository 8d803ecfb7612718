"""Take the screenshots of the README from a running stack: python docs/screenshots/take.py URL PASSWORD."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser import browser, settle

MODEL = "breast_cancer_screening"
PAGES = {
    "home": ("reviewer", "/"),
    "registry": ("viewer", "/registry"),
    "model": ("viewer", f"/model?name={MODEL}"),
    "version": ("reviewer", "/version?name=wine_cultivar&version=5"),
    "compare": ("scientist", f"/compare?versions={MODEL}:3,{MODEL}:8"),
    "review": ("reviewer", "/review"),
    "promotions": ("release_manager", "/promotions"),
    "history": ("auditor", "/history"),
}
FOLDER = Path(__file__).parent


def main(url: str, password: str) -> None:
    """Every page, light and dark; the version page also as a phone shows it."""
    with browser() as chrome:
        for theme in ("light", "dark"):
            for name, (person, path) in PAGES.items():
                take(chrome, url + path, person, password, name=f"{name}-{theme}", theme=theme, width=1440)
        take(chrome, url + PAGES["version"][1], "reviewer", password, name="version-narrow", theme="light", width=390)


def take(chrome: Browser, url: str, person: str, password: str, *, name: str, theme: str, width: int) -> None:
    """One picture."""
    page = chrome.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme).new_page()  # type: ignore[arg-type]
    page.goto(url)
    log_in(page, person, password)
    page.get_by_test_id("stMain").get_by_role("heading").first.wait_for()
    settle(page)
    if page.get_by_test_id("stPlotlyChart").count():
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.wait_for_function("() => !document.querySelector('[data-testid=\"stSkeleton\"]')")
    page.wait_for_timeout(1500)  # tables and charts draw themselves in
    page.screenshot(path=FOLDER / f"{name}.png")
    page.context.close()


def log_in(page: Page, person: str, password: str) -> None:
    """Through the log-in page the link leads to."""
    page.get_by_label("Username").fill(person)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")


if __name__ == "__main__":
    main(*sys.argv[1:])
