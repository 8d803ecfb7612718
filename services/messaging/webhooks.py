"""MLflow's signed webhooks: a hint that something changed, never the truth, and never more than a reason to look.

They name no actor and do not tell of stages, so all one may do is have the snapshot read again sooner.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping

from sqlalchemy.exc import IntegrityError

from services.database import database_time
from services.errors import BadInput, Refused
from services.signoff import Signoff
from services.tables import webhook_deliveries as deliveries

SIGNATURE, DELIVERY, TIMESTAMP = "x-mlflow-signature", "x-mlflow-delivery-id", "x-mlflow-timestamp"
MAX_AGE_SECONDS = 300
MAX_BODY = 256 * 1024


class BadSignature(Refused):
    """It was not MLflow who sent this, or not now. One sentence for every cause: it must not help a forger."""

    def __init__(self) -> None:
        super().__init__("This webhook is not signed as MLflow would sign it now.")


def received(signoff: Signoff, headers: Mapping[str, str], body: bytes) -> bool:
    """Take one webhook; whether it was new. A repeat of one that was taken does nothing.

    Args:
        headers: with lower-case names.

    Raises:
        Refused: no secret is configured here.
        BadSignature: the signature is missing or wrong, or the time is more than five minutes away.
        BadInput: it is signed, and is no JSON object.
    """
    secret = signoff.settings.webhook_secret
    if not secret:
        raise Refused("Webhooks are not taken here: SIGNOFF_WEBHOOK_SECRET is not set.")
    delivery, timestamp = headers.get(DELIVERY, ""), headers.get(TIMESTAMP, "")
    _require_genuine(secret, headers.get(SIGNATURE, ""), delivery, timestamp, body)
    _require_recent(timestamp, signoff.now().timestamp())
    name = _model(body)
    try:
        with signoff.database.writing() as connection:
            fingerprint = hashlib.sha256(delivery.encode()).hexdigest()
            connection.execute(deliveries.insert().values(id=fingerprint, at=database_time()))
    except IntegrityError:
        return False
    signoff.snapshot.hasten(name)
    return True


def forget(signoff: Signoff) -> int:
    """Drop deliveries that are too old to be repeated; returns how many."""
    with signoff.database.writing() as connection:
        old = deliveries.c.at < database_time() - 4 * MAX_AGE_SECONDS
        return connection.execute(deliveries.delete().where(old)).rowcount


def _require_genuine(secret: str, signature: str, delivery: str, timestamp: str, body: bytes) -> None:
    signed = f"{delivery}.{timestamp}.".encode() + body
    wanted = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    scheme, _, text = signature.partition(",")
    try:
        given = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        given = b""
    if scheme != "v1" or not delivery or not hmac.compare_digest(wanted, given):
        raise BadSignature


def _require_recent(timestamp: str, now: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature
    if abs(now - int(timestamp)) > MAX_AGE_SECONDS:
        raise BadSignature


def _model(body: bytes) -> str | None:
    """The registered model it is about, if it says so."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadInput("A webhook's body is a JSON object.")
    data = document.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name else None
