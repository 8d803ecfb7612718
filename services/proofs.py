"""How MLflow's hook and Signoff know each other: only a holder of the hook's token can make what our writes carry."""

from __future__ import annotations

import hashlib
import hmac
import time
from contextlib import AbstractContextManager

from services.registry import Hook, Registry
from services.signoff import Signoff


def proof(token: str, about: str) -> str:
    """What a write carries: what it belongs to, which many may know, and a code that only we and the hook can make."""
    code = hmac.new(token.encode(), f"signoff intent {about}".encode(), hashlib.sha256)
    return f"{about}.{code.hexdigest()}"


def _recent(token: str) -> str:
    """The hook takes it for ten minutes, by its own clock."""
    return proof(token, f"record-{int(time.time())}")


def ours(signoff: Signoff) -> AbstractContextManager[None]:
    """What is written to MLflow inside is Signoff's own: the witness of its record, or a validation."""
    return signoff.registry.under(_recent(signoff.settings.gate_token))


def hook(registry: Registry, token: str) -> Hook | None:
    """The hook in the MLflow server, asked in a way that shows it whether we have its ``token``; None: no hook."""
    with registry.under(_recent(token)):
        return registry.hook()


def problem(found: Hook | None, token: str) -> str | None:
    """Why the hook `hook` found cannot work with a Signoff that has this ``token``; None where it can, or is none."""
    if found is None or found.ours:
        return None
    if not found.asks:
        why = "it has no SIGNOFF_GATE_URL"
    elif not token:
        why = f"it asks {found.asks}, and Signoff has no SIGNOFF_GATE_TOKEN here"
    else:
        why = (
            f"it asks {found.asks}, and its SIGNOFF_GATE_TOKEN is not the one that Signoff has here, or the two clocks "
            "are ten minutes apart"
        )
    return f"The hook in the MLflow server does not know Signoff, so nothing that it protects can be changed: {why}."
