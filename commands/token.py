"""``signoff token create|list|revoke``: bearer tokens, straight on the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from commands.local import Json, answer, opened, operator, table
from services.accounts import tokens
from services.accounts.tokens import Token
from services.domain import Action

app = typer.Typer(help="Make, list and revoke bearer tokens.", no_args_is_help=True)

User = Annotated[str | None, typer.Option("--user", help="Whose; without it, everybody's.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for: nightly-ci.")],
    user: Annotated[str, typer.Option("--user", help="The account it acts as.")],
    models: Annotated[
        list[str] | None, typer.Option("--models", help="Only these; a pattern such as 'fraud_*'.")
    ] = None,
    actions: Annotated[list[str] | None, typer.Option("--actions", help=f"Only these: {', '.join(Action)}.")] = None,
    days: Annotated[
        int, typer.Option("--days", help=f"Until it expires, at most {tokens.MAX_DAYS}.")
    ] = tokens.DEFAULT_DAYS,
    as_json: Json = False,
) -> None:
    """Make a token and show it, this once. Its rights are its account's at the moment of use, and never more."""
    settings, database = opened()
    secret, token = tokens.create(
        database,
        settings.secret_key,
        by=operator(),
        username=user,
        name=name,
        models=_split(models),
        actions=_split(actions),
        days=days,
        at=datetime.now(UTC),
    )
    answer({"token": secret, **_told(token)}, secret, as_json=as_json)


@app.command("list")
def list_(user: User = None, as_json: Json = False) -> None:
    """Every token, without its secret."""
    settings, database = opened()
    found = tokens.listed(database, settings.secret_key, user)
    rows = [[t.id, t.username, t.name, t.state, _day(t.last_used_at) or "never", _limits(t)] for t in found]
    lines = table(["ID", "USER", "NAME", "STATE", "LAST USED", "LIMITED TO"], rows)
    answer({"tokens": [_told(token) for token in found]}, lines, as_json=as_json)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id, or its name.")], user: User = None, as_json: Json = False
) -> None:
    """End a token's life, at once."""
    settings, database = opened()
    known = tokens.find(database, settings.secret_key, token, user)
    ended = tokens.revoke(database, by=operator(), token=known, at=datetime.now(UTC))
    answer(_told(ended), f"Token {ended.name} of {ended.username} is revoked.", as_json=as_json)


def _split(words: list[str] | None) -> list[str]:
    """``--actions view,promote`` as well as ``--actions view --actions promote``; an empty part is refused later."""
    return [part.strip() for word in words or () for part in word.split(",")]


def _told(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "user": token.username,
        "models": list(token.scope.models),
        "actions": sorted(token.scope.actions),
        "state": token.state,
        "created_by": token.created_by,
        "created_at": token.created_at.isoformat(timespec="seconds"),
        "expires_at": token.expires_at.isoformat(timespec="seconds"),
        "last_used_at": token.last_used_at.isoformat(timespec="seconds") if token.last_used_at else None,
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def _limits(token: Token) -> str:
    return ", ".join([*sorted(token.scope.actions), *token.scope.models]) or "nothing"
