"""``GET /ledger/checkpoint`` and ``/ledger/export``: the signed head, and the whole ledger as JSON Lines."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.auth import ByBearer
from services.domain import Action
from services.record import checkpoints, condition
from services.record.export import export
from verifier.verify import parsed

router = APIRouter(tags=["ledger"])
JSON_LINES = "application/x-ndjson"


class Head(BaseModel):
    """What is signed, as canonical JSON: where the ledger ended; ``key`` names the key that signed."""

    type: str
    ledger: str
    seq: int
    hash: str
    at: str
    key: str


class SignedHead(BaseModel):
    """What a verifier is shown: the checkpoint, and its Ed25519 signature in base64."""

    checkpoint: Head
    signature: str


@router.get("/ledger/checkpoint")
def checkpoint(caller: ByBearer) -> SignedHead:
    """The present end of the ledger, signed. The public key is not in it: a verifier is given that by other means."""
    caller.require(Action.VIEW, None)
    signoff = caller.signoff
    condition.require_sound(signoff)
    signed = checkpoints.create(signoff.database, signoff.settings, at=signoff.now())
    return SignedHead(**parsed(signed.text))


@router.get(
    "/ledger/export",
    response_class=StreamingResponse,
    responses={200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}, "description": "JSON Lines."}},
)
def export_ledger(caller: ByBearer) -> StreamingResponse:
    """Every event, one a line, the signed checkpoint last; a file that does not end in it does not verify."""
    caller.require(Action.EXPORT_LEDGER, None)
    signoff = caller.signoff
    condition.require_sound(signoff)
    signed, lines = export(signoff.database, signoff.settings, at=signoff.now())
    name = f"ledger-{signed.checkpoint.seq}.jsonl"
    return StreamingResponse(
        lines, media_type=JSON_LINES, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
