"""Passwords, with streamlit-authenticator's hashing in dict mode: no file, no cookie, no widget of its own."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any

from services.errors import BadInput

MAX_BYTES = 72
NOBODY = "$2b$12$skfEpph4j0vvwBmZdIgDQ.mcrH5r4OB.bNpPrBrXrdUetzYcO7teS"
"""The hash of a password nobody knows: what an unknown account is checked against, so that it takes as long."""


_import = threading.Lock()  # the first log-ins come in threads of their own


def hasher() -> Any:
    """The library's hasher. Its import declares Streamlit components, which must come after the server's own start."""
    with _import:
        return _hasher()


@cache
def _hasher() -> Any:
    logging.disable(logging.WARNING)  # the components log that no script is running: true and harmless
    try:
        from streamlit_authenticator.utilities.hasher import Hasher
    finally:
        logging.disable(logging.NOTSET)
    return Hasher


class BcryptPasswords:
    """`services.accounts.people.Passwords` with bcrypt."""

    def hash(self, password: str) -> str:
        """Hash with a fresh salt; a quarter of a second."""
        if not password or _uncheckable(password):
            raise BadInput(f"A password must have 1 to {MAX_BYTES} bytes and no NUL: bcrypt reads no further.")
        hashed: str = hasher().hash(password)
        return hashed

    def check(self, password: str, hashed: str | None) -> bool:
        """Compare; a password bcrypt cannot take is compared all the same, in the same time, and is wrong."""
        if hashed is None or not hasher().is_hash(hashed) or _uncheckable(password):
            hasher().check_pw("not this one either", NOBODY)
            return False
        return bool(hasher().check_pw(password, hashed))


def _uncheckable(password: str) -> bool:
    try:
        return "\0" in password or len(password.encode()) > MAX_BYTES
    except UnicodeEncodeError:  # half a character, as no keyboard types it
        return True
