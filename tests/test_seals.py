"""The seal of an event: what somebody writes into the database without our key does not count, whatever it says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from services import tables
from services.database import Database
from services.errors import InvalidSettings, LedgerBroken, LedgerUnavailable
from services.record import ledger
from services.record.ledger import Kind
from services.record.seals import Seals
from services.signoff import Signoff
from tests.conftest import BOTH, SECRET, settings_in
from tests.ledgers import drop_triggers
from tests.test_ledger import add, entry
from verifier.canonical import canonical
from verifier.verify import Chain, Tampered

DATABASES = BOTH
PEOPLE = False
OTHER = "o" * 32


def forge(signoff: Signoff, kind: Kind = Kind.APPROVAL_GIVEN, mac: str = "0" * 64) -> int:
    """Append an event past Signoff: number, hash, predecessor, columns and head are as they should be."""
    with signoff.database.writing() as connection:
        drop_triggers(connection)
        last = ledger.events(connection, limit=1)[0]
        body = {**last.body, "seq": last.seq + 1, "previous": last.hash, "kind": kind.value, "comment": "Forged."}
        content = canonical(body)
        row = {name: body[name] for name in ("seq", "at", "kind", "actor", "actor_id", "model", "version", "intent")}
        fingerprint = hashlib.sha256(content).hexdigest()
        connection.execute(tables.events.insert().values(**row, body=content.decode(), hash=fingerprint, mac=mac))
        connection.execute(tables.ledger_head.update().values(seq=last.seq + 1, hash=fingerprint))
    return last.seq + 1


def verified(signoff: Signoff) -> int:
    """Follow the whole chain; returns its last number."""
    chain = Chain()
    with signoff.database.reading() as connection:
        for _ in ledger.follow(connection, chain):
            pass
    return chain.seq


def reopened(signoff: Signoff, secret: str, *earlier: str) -> Signoff:
    """The same database, opened with other secret keys."""
    settings = settings_in(
        signoff.settings.home,
        SIGNOFF_DATABASE_URL=signoff.settings.database_url,
        SIGNOFF_SECRET_KEY=secret,
        SIGNOFF_EARLIER_SECRET_KEYS=" ".join(earlier),
    )
    return replace(signoff, settings=settings, database=Database.of(settings))


class TestForgery:
    @pytest.mark.postgresql
    def test_of_an_event_that_fits_the_chain_is_found_by_its_seal(self, signoff: Signoff) -> None:
        add(signoff, entry())
        assert verified(signoff) == 4
        seq = forge(signoff)
        with pytest.raises(Tampered, match=f"Event #{seq} was not written by Signoff. Its seal is wrong"):
            verified(signoff)

    def test_cannot_be_read_as_an_event_or_appended_to(self, signoff: Signoff) -> None:
        add(signoff, entry())
        seq = forge(signoff)
        with signoff.database.reading() as connection:
            for read in (
                lambda: ledger.events(connection),
                lambda: list(ledger.stream(connection)),
                lambda: ledger.event(connection, seq),
                lambda: ledger.numbered(connection, [seq]),
            ):
                with pytest.raises(LedgerBroken, match=f"#{seq} was not written by Signoff") as told:
                    read()
                assert told.value.seq == seq
        with pytest.raises(LedgerBroken, match=f"#{seq}"):
            add(reopened(signoff, SECRET), entry())
        with signoff.database.reading() as connection:
            assert ledger.head(connection)[0] == seq

    @pytest.mark.postgresql
    def test_with_the_seal_of_another_event_or_of_another_ledger_is_found(self, signoff: Signoff) -> None:
        add(signoff, entry())
        with signoff.database.reading() as connection:
            stolen = connection.execute(sa.select(tables.events.c.mac).where(tables.events.c.seq == 4)).scalar_one()
            forged = Seals(SECRET.encode()).seal("0" * 32, ledger.head(connection)[1])
        for mac in (stolen, forged, "é" * 64, ""):
            with signoff.database.writing() as connection:
                drop_triggers(connection)
                connection.execute(tables.events.update().where(tables.events.c.seq == 3).values(mac=mac))
            with pytest.raises(Tampered, match="#3 was not written by Signoff"):
                verified(signoff)

    def test_needs_more_than_the_name_of_the_ledger(self, signoff: Signoff) -> None:
        with signoff.database.reading() as connection:
            name, (_, head) = ledger.ledger_id(connection), ledger.head(connection)
            assert ledger.seal(connection, head) == Seals(SECRET.encode()).seal(name, head)
        assert not Seals(SECRET.encode()).genuine(name, head, Seals(OTHER.encode()).seal(name, head))


class TestSecretKey:
    def test_an_event_sealed_with_an_earlier_key_counts_where_that_key_is_named(self, signoff: Signoff) -> None:
        add(signoff, entry())
        with pytest.raises(Tampered, match=r"#1 was not written by Signoff.*name the key before"):
            verified(reopened(signoff, OTHER))
        changed = reopened(signoff, OTHER, "unused" * 8, SECRET)
        add(changed, entry())
        assert verified(changed) == 5
        with pytest.raises(Tampered, match="#5"):
            verified(signoff)

    def test_an_earlier_key_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSettings, match="A key in SIGNOFF_EARLIER_SECRET_KEYS has 5 bytes"):
            settings_in(tmp_path, SIGNOFF_EARLIER_SECRET_KEYS=f"{OTHER} short")

    def test_a_database_opened_without_a_key_reads_and_appends_nothing(self, signoff: Signoff) -> None:
        bare = replace(signoff, database=Database(signoff.settings.database_url))
        with pytest.raises(LedgerUnavailable, match="without a secret key"):
            add(bare, entry())
        with bare.database.reading() as connection, pytest.raises(LedgerUnavailable, match="without a secret key"):
            ledger.events(connection)

    def test_an_export_carries_no_seal(self, signoff: Signoff) -> None:
        from services.record.export import export

        _, lines = export(signoff.database, signoff.settings, at=signoff.now())
        assert {*map(frozenset, map(json.loads, lines))} == {
            frozenset({"body", "hash"}),
            frozenset({"checkpoint", "signature"}),
        }
