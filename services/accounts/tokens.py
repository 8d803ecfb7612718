"""Bearer tokens: how a script, or a person's terminal, says who it is.

A token is 256 random bits, so nobody finds one by trying. What is kept is an HMAC of it under the secret key rather
than a plain hash: whoever can only write the table cannot put a token of their own into it either. Roles are not part
of a token. They are those of its account at the moment it is used, and its scope can only take away from them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.accounts import people, permissions
from services.database import Database, database_time
from services.domain import MAX_NAME, Action, Actor, Source
from services.errors import BadInput, LedgerUnavailable, NotAllowed, NotFound, Unauthenticated
from services.letters import blank
from services.record import ledger, refusals
from services.record.ledger import Entry, Kind
from services.tables import accounts, tokens

PREFIX = "signoff_"
"""So that people, and tools that look for leaked secrets, know one when they see it."""
MAX_TOKEN = 128
MAX_TOKEN_NAME = 100
MAX_PATTERNS = 50
MAX_NAMED = 10
MAX_DAYS = 366
DEFAULT_DAYS = 90
USE_NOTED_SECONDS = 60.0

LIVE = "live"
_USABLE = (tokens.c.revoked_at.is_(None), tokens.c.expires_at > database_time())
"""Whether a token was neither revoked nor has expired."""
_WRONG = "A valid bearer token is needed: this one is missing, unknown, expired or revoked, or its account is disabled."


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a token may be used for; what is empty limits nothing. ``models`` are patterns such as ``fraud_*``.

    ``token`` is the public id of the token; empty for a scope that is no token's yet.
    """

    models: tuple[str, ...] = ()
    actions: frozenset[Action] = frozenset()
    token: str = field(default="", compare=False)

    def covers(self, model: str) -> bool:
        """Whether it may be used on this registered model; case matters, as everywhere in MLflow."""
        return not self.models or any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    def require(self, action: Action, model: str | None) -> None:
        """Raise `NotAllowed` unless it may be used so; ``model`` is None for what concerns all of them."""
        if self.actions and action not in self.actions:
            raise NotAllowed(f"This token may not {_said(action)}; it is for {_some(map(_said, self.actions))}.")
        if self.models and (model is None or not self.covers(model)):
            what = "all models at once" if model is None else model
            raise NotAllowed(f"This token may not be used on {what}; it is for {_some(self.models)}.")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token without its secret. Times are UTC; ``revoked_at`` is None while it was not revoked."""

    id: str
    name: str
    username: str
    scope: Scope
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    expired: bool
    known: bool
    """Whether it was made with the present secret key: one of an earlier key is refused, also where that is named."""

    @property
    def state(self) -> str:
        """Whether it can still be used, as far as the token itself is concerned, and else why not, in words."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expired else LIVE if self.known else "ended by the new secret key"

    @property
    def live(self) -> bool:
        """Whether it can still be used, as far as the token itself is concerned."""
        return self.state == LIVE


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """Who sent a token: its account with the roles of this moment, and what this token is for."""

    actor: Actor
    scope: Scope


def create(  # noqa: PLR0913
    database: Database,
    secret_key: bytes,
    *,
    by: Actor,
    username: str,
    name: str,
    models: Iterable[str] = (),
    actions: Iterable[str] = (),
    days: int = DEFAULT_DAYS,
    at: datetime,
) -> tuple[str, Token]:
    """Make a token for an account; returns its secret, which is nowhere to be had again, and the rest of it.

    Args:
        by: the account's owner. For a service, which has no log-in, an admin; on the machine itself, anybody.
        models, actions: see `Scope`; without any, all of them. An empty name is a mistake.
        days: until it expires, 1 to 366.

    Raises:
        BadInput: a bad or taken name, an unknown action, a bad pattern, or too long a life.
        NotFound: there is no such account, or it is disabled.
        NotAllowed: it is somebody else's account; recorded.
        LedgerUnavailable: nothing was made.
    """
    scope = _scope(models, actions)
    if not (0 < len(name) <= MAX_TOKEN_NAME and name.isprintable() and name == name.strip()) or blank(name):
        raise BadInput(f"A token's name must be 1 to {MAX_TOKEN_NAME} printable characters without spaces at its ends.")
    if not 1 <= days <= MAX_DAYS:
        raise BadInput(f"A token lives for 1 to {MAX_DAYS} days; {days} is not among them.")
    _require_owner(database, by, username, at, making=True)
    secret, id_ = PREFIX + secrets.token_urlsafe(32), secrets.token_hex(6)
    try:
        with database.writing() as connection:
            account = connection.execute(sa.select(accounts.c.disabled).where(accounts.c.username == username)).first()
            if account is None or account.disabled:
                raise NotFound(f"There is no account {username!r} that may act.")
            now = float(connection.execute(sa.select(database_time())).scalar_one())
            row = {
                "id": id_,
                "username": username,
                "name": name,
                "models": list(scope.models),
                "actions": sorted(scope.actions),
                "created_by": by.username,
                "created_at": now,
                "expires_at": now + days * 86_400,
            }
            made = {"token_hash": _hashed(secret, secret_key), "key": _key(secret_key)}
            connection.execute(tokens.insert().values(**made, **row))
            ledger.append(connection, _entry(Kind.TOKEN_CREATED, by, at, row))
            return secret, _of(connection.execute(_query().where(tokens.c.id == id_)).one(), secret_key)
    except IntegrityError as error:
        raise BadInput(f"{username} already has a token {name!r}; revoke it first, or choose another name.") from error


def revoke(database: Database, *, by: Actor, token: Token, at: datetime) -> Token:
    """End a token's life, from its next use on; one that is revoked already stays so. Raises as `create`."""
    _require_owner(database, by, token.username, at)
    mine = tokens.c.id == token.id
    with database.writing() as connection:
        revoked = connection.execute(
            tokens.update().where(mine, tokens.c.revoked_at.is_(None)).values(revoked_at=database_time())
        )
        row = connection.execute(_query().where(mine)).one()
        if revoked.rowcount:
            ledger.append(connection, _entry(Kind.TOKEN_REVOKED, by, at, row._mapping))
        return replace(token, revoked_at=_utc(row.revoked_at))


def listed(database: Database, secret_key: bytes, username: str | None = None) -> list[Token]:
    """The tokens of one account or of all, by account and name, the newest of one name first."""
    query = _query().order_by(tokens.c.username, tokens.c.name, tokens.c.created_at.desc())
    if username is not None:
        query = query.where(tokens.c.username == username)
    with database.reading() as connection:
        return [_of(row, secret_key) for row in connection.execute(query)]


def find(database: Database, secret_key: bytes, text: str, username: str | None = None) -> Token:
    """The token with this id, or the only one with this name that was not revoked.

    Raises:
        NotFound: there is none.
        BadInput: several accounts have one of this name.
    """
    known = listed(database, secret_key, username)
    found = [token for token in known if token.id == text]
    found = found or [token for token in known if token.name == text and token.revoked_at is None]
    if not found:
        raise NotFound(f"There is no token {text!r}.")
    if len(found) > 1:
        raise BadInput(f"{', '.join(token.username for token in found)} have a token {text!r}; say whose is meant.")
    return found[0]


def bearer(database: Database, secret: str, secret_key: bytes, source: Source) -> Bearer:
    """Who sent this token, with the roles of this very moment; notes its use, at most once a minute.

    Raises:
        Unauthenticated: it is missing, unknown, expired or revoked, or its account is disabled.
        LedgerUnavailable: nobody can tell.
    """
    if not secret.startswith(PREFIX) or len(secret) > MAX_TOKEN or not secret.isascii():
        raise Unauthenticated(_WRONG)
    unnoted = sa.func.coalesce(tokens.c.last_used_at, 0.0) <= database_time() - USE_NOTED_SECONDS
    query = _query(unnoted.label("unnoted")).where(tokens.c.token_hash == _hashed(secret, secret_key), *_USABLE)
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            raise Unauthenticated(_WRONG)
        try:
            actor = people.acting(connection, row.username, source)
        except NotAllowed as error:
            raise Unauthenticated(_WRONG) from error
    if row.unnoted:
        # A note, not a condition: a database that can be read but not written stops no reading.
        with suppress(LedgerUnavailable), database.writing() as connection:
            mine = tokens.update().where(tokens.c.id == row.id, unnoted)
            connection.execute(mine.values(last_used_at=database_time()))
    return Bearer(actor=actor, scope=replace(_of(row, secret_key).scope, token=row.id))


_in_use: ContextVar[str] = ContextVar("token in use", default="")


@contextmanager
def in_use(scope: Scope | None) -> Iterator[None]:
    """While inside, what is done is done with the token of this scope, if it is one's; see `require_usable`."""
    before = _in_use.set(scope.token if scope else "")
    try:
        yield
    finally:
        _in_use.reset(before)


def require_usable(connection: Connection) -> None:
    """Raise `NotAllowed` where the token `in_use` was revoked or has expired since it was looked at."""
    token = _in_use.get()
    if token and connection.execute(_query().where(tokens.c.id == token, *_USABLE)).one_or_none() is None:
        raise NotAllowed("The token with which this was asked was revoked, or has expired, meanwhile.")


def _require_owner(database: Database, by: Actor, username: str, at: datetime, *, making: bool = False) -> None:
    if by.username == username:
        return
    ours = making and by.person is not None and _is_person(database, username)
    if permissions.may(by, Action.MANAGE_PEOPLE) and not ours:
        return
    reason = f"Only {username} or an admin may create or revoke a token of {username}."
    if ours:
        reason = f"A token of {username} acts in that person's name, so {username} alone may make it."
    refusals.record(database, kind=Kind.TOKEN_REFUSED, actor=by, ref=None, reason=reason, verdict=None, at=at)
    raise NotAllowed(reason)


def _is_person(database: Database, username: str) -> bool:
    mine = (accounts.c.username == username, accounts.c.automation.is_(False))
    with database.reading() as connection:
        return connection.execute(sa.select(accounts.c.username).where(*mine)).first() is not None


def _scope(models: Iterable[str], actions: Iterable[str]) -> Scope:
    patterns, names = tuple(dict.fromkeys(models)), tuple(actions)
    for what, named in (("models", patterns), ("actions", names)):
        if not all(one.strip() for one in named):
            raise BadInput(f"One of the token's {what} is empty; leave them out for all, or name each.")
    if len(patterns) > MAX_PATTERNS or not all(0 < len(p) <= MAX_NAME and p.isprintable() for p in patterns):
        raise BadInput(f"A token takes up to {MAX_PATTERNS} patterns for models, of printable characters.")
    known = {action.value for action in Action}
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"{unknown[0]!r} is not an action; there are {', '.join(sorted(known))}.")
    return Scope(models=patterns, actions=frozenset(Action(name) for name in names))


def _entry(kind: Kind, by: Actor, at: datetime, row: Any) -> Entry:
    done = "created" if kind is Kind.TOKEN_CREATED else "revoked"
    return Entry(
        kind=kind,
        actor=by,
        at=at,
        comment=f"Token {row['name']!r} of {row['username']} was {done}.",
        details={
            "token": row["id"],
            "name": row["name"],
            "account": row["username"],
            "models": list(row["models"]),
            "actions": list(row["actions"]),
            "expires_at": _utc(row["expires_at"]).isoformat(timespec="seconds"),
        },
    )


def _hashed(secret: str, secret_key: bytes) -> str:
    # Named for what it is of, so that what is kept of a session can never pass for what is kept of a token.
    return hmac.new(secret_key, b"bearer token\0" + secret.encode(), hashlib.sha256).hexdigest()


def _key(secret_key: bytes) -> str:
    """Which secret key it is, and nothing of it."""
    return hmac.new(secret_key, b"which key tokens are kept with", hashlib.sha256).hexdigest()[:16]


def _query(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    known = [column for column in tokens.c if column.name != "token_hash"]
    return sa.select(*known, (tokens.c.expires_at <= database_time()).label("expired"), *more)


def _of(row: sa.Row[Any], secret_key: bytes) -> Token:
    known = {action.value for action in Action}
    # An action that is no longer known must not turn a limited token into one without limits.
    actions = frozenset(Action(name) for name in row.actions if name in known) or (
        frozenset({Action.VIEW}) if row.actions else frozenset()
    )
    return Token(
        id=row.id,
        name=row.name,
        username=row.username,
        scope=Scope(models=tuple(row.models), actions=actions),
        created_by=row.created_by,
        created_at=_utc(row.created_at),
        expires_at=_utc(row.expires_at),
        last_used_at=_utc(row.last_used_at) if row.last_used_at is not None else None,
        revoked_at=_utc(row.revoked_at) if row.revoked_at is not None else None,
        expired=bool(row.expired),
        known=row.key == _key(secret_key),
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _said(action: Action) -> str:
    return action.replace("_", " ")


def _some(words: Iterable[str]) -> str:
    ordered = sorted(words)
    return ", ".join(ordered[:MAX_NAMED]) + (" …" if len(ordered) > MAX_NAMED else "")
