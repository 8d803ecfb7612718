"""Delivers the outbox: a thread for each channel, so that a slow receiver holds up nobody else."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from services.messaging import delivery, message_text, outbox
from services.messaging.delivery import NotDelivered, Send
from services.messaging.message_book import MAIL
from services.messaging.message_text import Letter
from services.messaging.outbox import Claim
from services.record import checkpoints, ledger
from services.signoff import Signoff
from services.tables import accounts
from services.worker import Worker

INTERVAL_SECONDS = 2.0
PATIENCE_SECONDS = 900.0
_ADDRESS = re.compile(r"[^\s,;<>\"@\\()]+@[^\s,;<>\"@\\()]+")

_CHANCE = secrets.SystemRandom()

log = logging.getLogger(__name__)


class Courier:
    """Runs `turn` for every channel until stopped. ``chance`` gives numbers from 0 to 1 for the pauses."""

    def __init__(self, signoff: Signoff, chance: Callable[[], float] = _CHANCE.random) -> None:
        self._signoff = signoff
        self._chance = chance
        self.workers = tuple(
            Worker(
                "delivery of messages",
                partial(self._round, channel),
                interval=INTERVAL_SECONDS,
                patience=PATIENCE_SECONDS,
            )
            for channel in signoff.messages.destinations
        )

    def start(self) -> None:
        """Begin."""
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """End; a message that is being sent is finished for up to five seconds, or sent again after the next start."""
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.stop()

    def turn(self, channel: str) -> bool:
        """Send the next message of a channel, if one is due; whether there was one."""
        signoff = self._signoff
        claimed = outbox.claim(signoff.database, channel, at=signoff.now())
        if claimed is None:
            return False
        send = self._way(claimed)
        if send is None:
            outbox.dropped(signoff.database, claimed, "The account was closed, or has no address to send mail to.")
            return True
        try:
            send(self._letter(claimed), signoff.messages.allowed_networks)
        except NotDelivered as error:
            log.warning("message #%s to %s: %s", claimed.message.number, channel, error)
            outbox.failed(signoff.database, claimed, str(error), final=error.final, chance=self._chance())
        else:
            outbox.delivered(signoff.database, claimed)
        return True

    def _way(self, claimed: Claim) -> Send | None:
        book, message = self._signoff.messages, claimed.message
        if message.channel != MAIL:
            channel = next(found for found in book.channels if found.name == message.channel)
            return delivery.channel(channel.kind, channel.address.get_secret_value())
        with self._signoff.database.reading() as connection:
            address = connection.execute(
                sa.select(accounts.c.email).where(accounts.c.username == message.person, accounts.c.disabled.is_(False))
            ).scalar()
        if not book.mail or not address or not _ADDRESS.fullmatch(address):
            return None
        return delivery.mail_server(book.mail.server.get_secret_value(), sender=book.mail.sender, to=address)

    def _letter(self, claimed: Claim) -> Letter:
        message = claimed.message
        with self._signoff.database.reading() as connection:
            event = ledger.event(connection, message.seq)
            newest = checkpoints.newest(connection)
            head = ledger.head(connection)
        if event is None:
            raise NotDelivered(f"Event #{message.seq} is not in the ledger.", final=True)
        return message_text.compose(
            event,
            id=message.id,
            occasion=message.occasion,
            why=message.why,
            site=self._signoff.settings.url,
            head=head,
            checkpoint=newest.text if newest else None,
        )

    def _round(self, channel: str) -> float:
        return 0.0 if self.turn(channel) else INTERVAL_SECONDS
