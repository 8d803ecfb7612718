"""Security headers on every answer, and the content security policy of Streamlit's own document."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PUBLIC_FILES = ("/static/", "/app/static/")
"""Streamlit's frontend bundle and our fonts: the same for everybody, so a browser may keep them."""

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def script_hashes(document: str) -> str:
    """The sources that allow exactly the inline scripts of this document."""
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(document))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def content_security_policy(scripts: str) -> str:
    """What pages may load: our own files. Styles are inline because Streamlit writes them while it runs."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {scripts}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class SecurityHeaders:
    """Adds the headers to whatever answers; an answer with a policy of its own keeps it."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app = app
        self.headers: Iterable[tuple[str, str]] = (
            ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers:
                    headers.setdefault(name, value)
                if not path.startswith(PUBLIC_FILES) or message["status"] >= 400:
                    headers["Cache-Control"] = "no-store"
                elif path.startswith("/app/static/"):
                    headers.setdefault("Cache-Control", "public, max-age=86400")
            await send(message)

        await self.app(scope, receive, send_with_headers)
