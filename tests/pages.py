"""Pages without a browser: Streamlit's own tester on the real shell, signed in through a real session row."""

from __future__ import annotations

from functools import cache
from html import unescape

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from components import session
from components.links import PAGES
from components.text import JOINER
from services.accounts import sessions
from services.settings import PROJECT
from services.signoff import Signoff

TIMEOUT = 30

# The tester looks through all installed distributions for components at each run: half of what a page costs.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def shell(signoff: Signoff, username: str) -> AppTest:
    """The app as ``username`` sees it, not run yet."""
    session.use(signoff)
    token = sessions.open_session(signoff.database, username, signoff.settings.secret_key)
    at = AppTest.from_file(PROJECT / "components" / "shell.py", default_timeout=TIMEOUT)
    at.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
    return at


def opened(signoff: Signoff, username: str, page: str, **query: str) -> AppTest:
    """One page, by its name in `components.links.PAGES`, with query parameters: a link to it, opened."""
    at = shell(signoff, username)
    for key, value in query.items():
        at.query_params[key] = value
    if page != "home":  # where a link without a path leads
        at.switch_page(PAGES[page])
    return at.run()


def text(at: AppTest) -> str:
    """All words on the page."""
    groups = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    elements = [element.value for group in groups for element in group]
    html = [element.proto.body for element in at.get("html")]
    return unescape("\n".join(str(value) for value in (*elements, *html))).replace("\\", "").replace(JOINER, "")
