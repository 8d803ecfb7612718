"""What MLflow sends: its signature is all the authentication there is, and a hint all it can give."""

from __future__ import annotations

import anyio
from fastapi import APIRouter, Request
from pydantic import BaseModel

from services.errors import BadInput
from services.messaging import webhooks
from services.signoff import Signoff

router = APIRouter(tags=["webhooks"])


class Taken(BaseModel):
    """``new`` is false for a repeat, which changed nothing."""

    new: bool


@router.post("/webhooks/mlflow", include_in_schema=False)  # for MLflow, which signs; the rest is for bearers
async def mlflow(request: Request) -> Taken:
    """Refused unless signed with the webhook's secret, for this body, within five minutes."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > webhooks.MAX_BODY:
            raise BadInput(f"A webhook has at most {webhooks.MAX_BODY} bytes.")
    signoff: Signoff = request.app.state.door.signoff
    headers = {name: value for name, value in request.headers.items() if name.startswith("x-mlflow-")}
    return Taken(new=await anyio.to_thread.run_sync(webhooks.received, signoff, headers, body))
