"""Known devices: browsers in which somebody has logged in to an account before, as OWASP's device cookies.

The cookie is signed for one account and its present password, so nobody can make one up, hand one on to another
account, or keep one past a new password. It lets nobody in: it says whose wrong passwords are counted together.
"""

from __future__ import annotations

import hashlib
import secrets

from itsdangerous import BadSignature, URLSafeTimedSerializer

from services.accounts import people
from services.database import Database

SECONDS = 90 * 24 * 60 * 60
MAX_COOKIE = 256


def issue(database: Database, username: str, secret_key: bytes) -> str:
    """The cookie of a device in which this person has just logged in; empty when there is no such account any more."""
    hashed = _hashed(database, username)
    return str(_signed_for(username, hashed, secret_key).dumps(secrets.token_urlsafe(12))) if hashed else ""


def known(database: Database, username: str, cookie: str, secret_key: bytes) -> str | None:
    """The device's own id; None for a cookie that is not this account's, too old, or from before its password."""
    if not 0 < len(cookie) <= MAX_COOKIE or not (hashed := _hashed(database, username)):
        return None
    try:
        return str(_signed_for(username, hashed, secret_key).loads(cookie, max_age=SECONDS))
    except BadSignature:
        return None


def _hashed(database: Database, username: str) -> str | None:
    with database.reading() as connection:
        row = people.account_of(connection, username)
    return None if row is None or row.automation else str(row.password)


def _signed_for(username: str, hashed: str, secret_key: bytes) -> URLSafeTimedSerializer:
    how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(secret_key, salt=f"known device\0{username}\0{hashed}", signer_kwargs=how)
