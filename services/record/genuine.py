"""Whether a row of ``events`` is an event that Signoff wrote. Anybody who can write the database can put rows there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from services.record.seals import Seals
from verifier.verify import Tampered

REPEATED = ("at", "kind", "actor", "actor_id", "model", "version", "intent", "closes", "account")
"""What an event says and the columns repeat, to be searched by."""
_FILED = ("seq", *REPEATED)
COLUMNS = (*_FILED, "body", "hash", "mac")
"""What a row must have to be judged, in this order."""
RESEAL = (
    "Its seal is wrong. (If SIGNOFF_SECRET_KEY was changed, name the key before in SIGNOFF_EARLIER_SECRET_KEYS, and "
    "this event counts again.)"
)


def body_of(row: Any, seals: Seals, ledger: str) -> Mapping[str, Any]:
    """What the event in this row says; ``row`` has the `COLUMNS`, ``ledger`` is the name of the ledger it is in.

    Raises:
        Tampered: Signoff did not write this row, or it is no longer as Signoff wrote it.
    """
    require_text(row)
    if hashlib.sha256(row.body.encode("utf-8", "surrogatepass")).hexdigest() != row.hash:
        raise Tampered(f"Event #{row.seq} does not fit its hash: it was changed.", row.seq)
    require_sealed(row, seals, ledger)
    try:
        body = json.loads(row.body)
    except (ValueError, RecursionError):
        raise unreadable(row.seq) from None
    require_filed(row, body)
    found: Mapping[str, Any] = body
    return found


def require_text(row: Any) -> None:
    """Raise `Tampered` for a number that no event has, and for a body, hash or seal that is no text."""
    if row.seq < 1:
        raise misnumbered(row.seq)
    if not (isinstance(row.body, str) and isinstance(row.hash, str) and isinstance(row.mac, str)):
        raise unreadable(row.seq)


def misnumbered(seq: int) -> Tampered:
    """For an event numbered 0 or below."""
    return Tampered(f"An event is numbered {seq}, and Signoff numbers events from 1: it was inserted.", seq)


def unreadable(seq: int) -> Tampered:
    """For what is no event at all."""
    return Tampered(f"Event #{seq} cannot be read: it was changed.", seq)


def require_sealed(row: Any, seals: Seals, ledger: str) -> None:
    """Raise `Tampered` for an event without a seal of ours."""
    if not seals.genuine(ledger, row.hash, row.mac):
        raise Tampered(f"Event #{row.seq} was not written by Signoff. {RESEAL}", row.seq)


def require_filed(row: Any, body: Any) -> None:
    """Raise `Tampered` where the columns say something else than the event does."""
    if not isinstance(body, dict) or tuple(row)[: len(_FILED)] != tuple(map(body.get, _FILED)):
        raise Tampered(f"Event #{row.seq} is filed as something else than it says.", row.seq)
