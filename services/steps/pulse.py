"""A process that holds slots shows that it lives, so that those of a dead one are free before their lease is over.

It shows the same for each idempotency key whose request it carries out. What is over at which moment, and why a write
of a dead process cannot arrive after it: docs/decisions/031.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from services.database import Database, database_time
from services.tables import processes, slots
from services.worker import Worker

ALIVE_SECONDS = 25.0
"""How long a process counts as alive after each beat: longer than `intents.WRITE_SECONDS` and two beats more."""
BEAT_SECONDS = 3.0
FORGOTTEN_SECONDS = 24 * 60 * 60.0
"""After this nobody asks about a dead process any more: no lease is nearly as long."""


def beat(connection: Connection, process: str) -> None:
    """Let a process, or a claim, count as alive for `ALIVE_SECONDS` from now on the database's clock."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    until = {"alive_until": database_time() + ALIVE_SECONDS}
    row = insert(processes).values(process=process, **until)
    connection.execute(row.on_conflict_do_update(index_elements=["process"], set_=until))


def dead(seconds: float = 0.0) -> sa.ColumnElement[bool]:
    """Whether the process that holds a slot will be dead in ``seconds``; False where a slot depends on none."""
    over = processes.c.alive_until <= database_time() + seconds
    return sa.exists().where(processes.c.process == slots.c.process, over)


class Pulse:
    """Beats while this process holds a slot or a claim, in a thread of its own. What it holds depends on it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._process = database.process = uuid.uuid4().hex
        self._worker = Worker("sign of life", self._round, interval=BEAT_SECONDS, patience=ALIVE_SECONDS)
        self.workers = (self._worker,)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End; slots that are taken after this depend on their lease alone."""
        self._database.process = None
        self._worker.stop()

    def turn(self) -> None:
        """Beat, where this process holds a slot or a claim; raises `LedgerUnavailable`."""
        living = sorted(self._database.claims.copy())
        held = sa.select(slots.c.model).where(slots.c.process == self._process, slots.c.holder.is_not(None))
        with self._database.reading() as connection:
            if connection.execute(held.limit(1)).first() is not None:
                living.append(self._process)
        if not living:
            return
        with self._database.writing() as connection:
            for one in living:
                beat(connection, one)
            long_dead = processes.c.alive_until <= database_time() - FORGOTTEN_SECONDS
            connection.execute(processes.delete().where(long_dead))

    def _round(self) -> float:
        self.turn()
        return BEAT_SECONDS
