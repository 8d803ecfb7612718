"""How MLflow's hook tells our writes from those of others: only a holder of its token can make what they carry."""

from __future__ import annotations

import hashlib
import hmac
import time
from contextlib import AbstractContextManager

from services.settings import Settings
from services.signoff import Signoff


def proof(settings: Settings, about: str) -> str:
    """What a write carries: what it belongs to, which many may know, and a code that only we and the hook can make."""
    code = hmac.new(settings.gate_token.encode(), f"signoff intent {about}".encode(), hashlib.sha256)
    return f"{about}.{code.hexdigest()}"


def ours(signoff: Signoff) -> AbstractContextManager[None]:
    """What is written to MLflow inside is Signoff's own: the witness of its record, or a validation.

    The hook takes it for ten minutes, by its own clock.
    """
    return signoff.registry.under(proof(signoff.settings, f"record-{int(time.time())}"))
