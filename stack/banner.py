"""What the person at the terminal sees when everything is up."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from services.accounts import keeping
from services.accounts.people import DEMO_ACCOUNTS
from services.database import Database
from services.errors import LedgerUnavailable
from services.settings import Settings
from stack.answers import without_password

FIRST_ADMIN = '.venv/bin/signoff user add USERNAME --name "FULL NAME" --role admin'


def banner(settings: Settings, people: Sequence[str], *, logs: str) -> str:
    """Both addresses, and in ``people`` the lines that say who may log in."""
    return "\n".join(
        [
            "",
            f"  {_green('●')} {_bold('Signoff is ready')}",
            "",
            f"    Dashboard   {_link(settings.url)}",
            f"    MLflow      {_link(without_password(settings.mlflow_uri))}",
            "",
            *(f"    {line}".rstrip() for line in people),
            *([""] if people else []),
            f"    {_faint(f'Logs are in {logs}. Ctrl-C stops everything; all data stays.')}",
            "",
        ]
    )


def demo_people(password: str) -> list[str]:
    """The demo accounts; ``password`` is a sentence, not always the password itself."""
    width = max(len(username) for username, _, _ in DEMO_ACCOUNTS)
    people = [f"{_bold(f'{username:{width}}')}   {role.replace('_', ' ')}" for username, _, role in DEMO_ACCOUNTS]
    return [_faint(f"{'account':{width}}   role"), *people, "", password]


def first_admin(settings: Settings) -> list[str]:
    """How to make the first admin; nothing where there is one, or where the database does not say."""
    try:
        with Database.of(settings).reading() as connection:
            if keeping.admins(connection):
                return []
    except LedgerUnavailable:
        return []
    return [
        "Nobody keeps the accounts yet. Make the first admin in another terminal, with the same settings:",
        "",
        _bold(FIRST_ADMIN),
    ]


def _styled(text: str, code: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{code}m{text}\033[0m"


def _bold(text: str) -> str:
    return _styled(text, "1")


def _faint(text: str) -> str:
    return _styled(text, "2")


def _green(text: str) -> str:
    return _styled(text, "32")


def _link(text: str) -> str:
    return _styled(text, "4;36")
