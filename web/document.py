"""The document every page starts as: Streamlit's, under our own name and icon from the first moment."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import streamlit
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route


class _PageName(Convertor[str]):
    """One word: what our pages are called, and nothing that Streamlit serves itself."""

    regex = "[a-z_]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("page_name", _PageName())


WHERE_THE_SERVER_IS = '<script>window.__streamlit = { BACKEND_BASE_URL: window.location.origin + "/" }</script>'
"""Else the frontend first looks for the server under the page's own path, and a deep link opens 0.1 s later."""


@cache
def document() -> str:
    """Streamlit's index.html with our title and icon, and without the preload of a font we do not use."""
    text = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    text = text.replace("<title>Streamlit</title>", "<title>Signoff</title>")
    text = text.replace('href="./favicon.png"', 'type="image/svg+xml" href="./app/static/mark.svg"')
    text = re.sub(r'<link\s+rel="preload"[^>]*SourceSans[^>]*/>', "", text)
    return text.replace("</title>", "</title>\n    " + WHERE_THE_SERVER_IS)


async def _page(_: Request) -> HTMLResponse:
    return HTMLResponse(document())


page_route = Route("/{page:page_name}", _page, methods=["GET"])
