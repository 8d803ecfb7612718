"""Epochs of the ledger: a person states that witnessed events were lost, because a backup was restored on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from services.record import ledger
from services.record.ledger import Filter, Kind
from verifier.verify import Checkpoint, restoration_in


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """An epoch after the first: which witnessed events and which runs of MLflow's were lost before, also in words.

    ``seq`` is the event that opened it, ``first`` and ``last`` the lost numbers, 0 where no event was.
    """

    number: int
    seq: int
    first: int
    last: int
    runs: frozenset[str]
    words: str

    def explains(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint that contradicts the ledger is about what was stated to be lost."""
        return checkpoint.epoch < self.number and self.first <= checkpoint.seq <= self.last


def opened(connection: Connection) -> list[Epoch]:
    """Every epoch after the first, oldest first."""
    found = ledger.events(connection, Filter(kinds=(Kind.LEDGER_RESTORED,)), limit=None)
    return [_epoch(event) for event in reversed(found)]


def at(connection: Connection, seq: int) -> int:
    """The number of the epoch that event ``seq`` is in."""
    return max((epoch.number for epoch in opened(connection) if epoch.seq <= seq), default=1)


def _epoch(event: ledger.Event) -> Epoch:
    number, words = restoration_in(event.body)
    return Epoch(
        number=number,
        seq=event.seq,
        first=event.get("first") or 0,
        last=event.get("last") or 0,
        runs=frozenset(event.get("runs")),
        words=words,
    )
