"""Under which claim of an idempotency key events are recorded.

A request that comes with a key claims the key before it is carried out (`services.verbs.idempotency`). The event that
records the request is noted in the row of the key, in the transaction that appends it. So the claim of a process that
died says whether anything was recorded, and a process that lost its claim to another one records nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.errors import PromotionConflict
from services.tables import idempotency_keys as keys

if TYPE_CHECKING:
    from services.record.ledger import Event


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One attempt to carry out the request of a key. ``subject`` is what the record calls the request."""

    person: str
    key: str
    subject: str
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def held(self) -> sa.ColumnElement[bool]:
        """Whether the row of the key is still under this claim."""
        return sa.and_(keys.c.person == self.person, keys.c.key == self.key, keys.c.claim == self.id)


_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


@contextmanager
def recording(claim: Claim) -> Iterator[None]:
    """Let the events that are appended inside belong to this claim."""
    before = _claim.set(claim)
    try:
        yield
    finally:
        _claim.reset(before)


def note(connection: Connection, event: Event) -> None:
    """Note an event that is about to be appended, where it records the request of the present claim.

    Raises:
        PromotionConflict: the claim was lost to another process, which carries the request out.
    """
    claim = _claim.get()
    if claim is None or event.kind.outcome == "refused":
        return
    requested = event.kind.subject == claim.subject and event.body["closes"] is None
    change = keys.update().where(claim.held).values(event=event.seq if requested else keys.c.event)
    if connection.execute(change).rowcount != 1:
        raise PromotionConflict(
            "This took so long that another process began to carry out the request with this Idempotency-Key. "
            "Nothing was changed here; ask again soon."
        )
