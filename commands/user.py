"""``signoff user add|list|set-roles|set-password|disable``: accounts, straight on the database."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from commands.local import Json, answer, opened, operator, table
from services.accounts import keeping, new_passwords, people
from services.domain import Role
from services.errors import BadInput, NotFound

app = typer.Typer(help="Keep the accounts.", no_args_is_help=True)

Username = Annotated[str, typer.Argument(help="What the person logs in with.")]


@app.command()
def add(
    username: Username,
    name: Annotated[str, typer.Option("--name", help="The person's own name.")],
    role: Annotated[list[Role] | None, typer.Option("--role", help="May be given several times.")] = None,
    email: Annotated[str, typer.Option("--email")] = "",
    service: Annotated[bool, typer.Option("--service", help="Not a person: it acts by token only.")] = False,
    as_json: Json = False,
) -> None:
    """Make an account. A person's password is asked for, or read as the first line of standard input."""
    from web.passwords import BcryptPasswords  # imports the authenticator: a second

    _, database = opened()
    roles = role or [Role.VIEWER]
    if service:
        keeping.add(
            database, by=operator(), username=username, name=name, roles=roles, hashed=None, at=datetime.now(UTC)
        )
        told = {"username": username, "roles": sorted(roles), "service": True}
        answer(told, f"{username} may act with a token.", as_json=as_json)
        return
    if people.credentials(database, username)["usernames"]:
        raise BadInput(f"There is already an account {username!r}.")
    hashed = new_passwords.hashed(_password(), BcryptPasswords(), about=(username, name, email))
    now = datetime.now(UTC)
    keeping.add(database, by=operator(), username=username, name=name, email=email, roles=roles, hashed=hashed, at=now)
    answer({"username": username, "roles": sorted(roles)}, f"{username} may log in.", as_json=as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every account."""
    _, database = opened()
    found = people.listed(database)
    rows = [[a.username, a.name, ", ".join(a.roles), "disabled" if a.disabled else "", a.email] for a in found]
    lines = table(["USERNAME", "NAME", "ROLES", "", "E-MAIL"], rows)
    answer({"users": [asdict(account) for account in found]}, lines, as_json=as_json)


@app.command("set-roles")
def set_roles(
    username: Username,
    roles: Annotated[list[Role], typer.Argument(help="All that the person is to be.")],
    as_json: Json = False,
) -> None:
    """Replace somebody's roles, at once and in open sessions too."""
    _, database = opened()
    keeping.set_roles(database, by=operator(), username=username, roles=roles, at=datetime.now(UTC))
    told = sorted(set(roles))
    answer({"username": username, "roles": told}, f"{username} is now {', '.join(told)}.", as_json=as_json)


@app.command("set-password")
def set_password(username: Username, as_json: Json = False) -> None:
    """Give somebody a new password, as `add` asks for it. All their sessions end; their tokens stay."""
    from web.passwords import BcryptPasswords  # imports the authenticator: a second

    _, database = opened()
    known = people.credentials(database, username)["usernames"].get(username)
    if known is None:
        raise NotFound(f"There is no person's account {username!r}.")
    hashed = new_passwords.hashed(_password(), BcryptPasswords(), about=(username, known["name"], known["email"]))
    keeping.set_password(database, by=operator(), username=username, hashed=hashed, at=datetime.now(UTC))
    answer({"username": username}, f"{username} has a new password; all sessions ended.", as_json=as_json)


@app.command()
def disable(username: Username, as_json: Json = False) -> None:
    """Let somebody neither in nor act any more; sessions and tokens end at once."""
    _, database = opened()
    keeping.disable(database, by=operator(), username=username, at=datetime.now(UTC))
    answer({"username": username, "disabled": True}, f"{username} is disabled.", as_json=as_json)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
