"""The page that shows the API, drawn by Swagger UI from our own files: it asks no other host for anything."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).parent
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def docs_routes() -> list[BaseRoute]:
    """``/docs`` and its files; neither needs a token, and neither says more than the documentation does."""
    return [Route("/docs", _page, methods=["GET"]), Mount("/static", StaticFiles(directory=HERE / "static"))]


async def _page(_: Request) -> HTMLResponse:
    text = (HERE / "docs.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})
