"""The command line. Exit codes: 0 done · 1 refused, or does not verify · 2 wrong usage · 3 a system is unreachable."""

from __future__ import annotations

import sys

import typer

from commands import doctor, findings, ledger, policy, remote, token, user, validate, verbs
from commands.remote import REFUSED, UNREACHABLE, WRONG_USAGE
from services.errors import (
    LedgerBroken,
    LedgerUnavailable,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    SignoffError,
)
from verifier.verify import Tampered, UnusableKey

app = typer.Typer(
    name="signoff",
    help="One gate in front of MLflow's Model Registry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(ledger.app, name="ledger")
app.add_typer(policy.app, name="policy")
app.add_typer(token.app, name="token")
app.add_typer(user.app, name="user")
verbs.register(app)
findings.register(app)
app.command()(validate.validate)
app.command()(doctor.doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code; an error is one sentence on stderr."""
    try:
        app(args=arguments)
    except remote.Unanswered as error:
        verbs.refused(error, sys.argv[1:] if arguments is None else arguments)
        sys.exit(error.code)
    except (SignoffError, Tampered, UnusableKey, OSError) as error:
        typer.echo(str(error), err=True)
        sys.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """The contract's exit code for an error."""
    if isinstance(error, Refused | PromotionConflict | LedgerBroken | Tampered):
        return REFUSED
    if isinstance(error, LedgerUnavailable | RegistryUnavailable):
        return UNREACHABLE
    return WRONG_USAGE
