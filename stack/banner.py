"""What the person at the terminal sees when everything is up."""

from __future__ import annotations

import os
import sys

from services.accounts.people import DEMO_ACCOUNTS
from services.settings import Settings


def banner(settings: Settings, password: str, *, logs: str) -> str:
    """Both addresses and the demo accounts; ``password`` is a sentence, not always the password itself."""
    width = max(len(username) for username, _, _ in DEMO_ACCOUNTS)
    people = [f"    {_bold(f'{username:{width}}')}   {role.replace('_', ' ')}" for username, _, role in DEMO_ACCOUNTS]
    return "\n".join(
        [
            "",
            f"  {_green('●')} {_bold('Signoff is ready')}",
            "",
            f"    Dashboard   {_link(settings.url)}",
            f"    MLflow      {_link(settings.mlflow_uri)}",
            "",
            "    " + _faint(f"{'account':{width}}   role"),
            *people,
            "",
            f"    {password}",
            "",
            f"    {_faint(f'Logs are in {logs}. Ctrl-C stops everything; all data stays.')}",
            "",
        ]
    )


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
