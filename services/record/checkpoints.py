"""Signed checkpoints: at this time the ledger ended in this event. Whoever rewrites history cannot sign it again."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import Database
from services.errors import BadInput, LedgerBroken
from services.record import epochs, ledger
from services.record.replay import Replay
from services.settings import Settings, private_folder
from services.tables import checkpoints, events
from verifier.canonical import canonical
from verifier.keys import Key, Keys, Rotation, Tampered, key_id, led_to, rotation_in
from verifier.verify import GENESIS, Chain, Checkpoint, checkpoint_in

ledger_id = ledger.ledger_id


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A checkpoint with its compact text: one line of canonical JSON, the checkpoint and its signature."""

    checkpoint: Checkpoint
    text: str


class Differs(Tampered):
    """The tables beside the ledger are not what the record says: a sentence for each of the ``differences``."""

    def __init__(self, differences: Iterable[str], seq: int) -> None:
        self.differences = tuple(differences)
        more = len(self.differences) - 1
        told = f" There {'is 1 more difference' if more == 1 else f'are {more} more differences'}." if more else ""
        super().__init__(f"{self.differences[0]}{told}", seq)


def _private_key(settings: Settings) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(settings.checkpoint_seed)


def public_key_file(settings: Settings) -> Path:
    """Where `publish` puts the public key."""
    return settings.home / "checkpoint-key.pub"


def publish(settings: Settings) -> Path:
    """Write the present public key as PEM where people find it. Nothing of ours reads that file."""
    path = public_key_file(settings)
    pem = _private_key(settings).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not path.exists() or path.read_bytes() != pem:
        private_folder(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(pem)
        temporary = Path(file.name)
        temporary.chmod(0o644)
        temporary.replace(path)  # a reader sees the old file or the new one, never half of it
    return path


def own_key(settings: Settings) -> Keys:
    """The public key of the present private key."""
    public = _private_key(settings).public_key()
    return {key_id(public): Key(public=public)}


def trusted(database: Database, settings: Settings) -> Keys:
    """The public keys our own checkpoints are checked with: the present one, and those that rotations lead to from it.

    Raises:
        LedgerBroken: see `reached`.
    """
    with database.reading() as connection:
        return reached(connection, own_key(settings))


def reached(connection: Connection, given: Keys) -> Keys:
    """The keys that this ledger's rotations lead to from those given, each with the events it is honoured for.

    What an imported record was signed with is honoured up to the event of its import.

    Raises:
        LedgerBroken: an event of a rotation is none.
    """
    kinds = (ledger.Kind.KEY_ROTATED, ledger.Kind.LEDGER_IMPORTED)
    name, line, imported = ledger_id(connection), list[Rotation](), dict[str, Key]()
    try:
        for event in reversed(ledger.events(connection, ledger.Filter(kinds=kinds), limit=None)):
            if event.kind is ledger.Kind.KEY_ROTATED:
                line.append(rotation_in(event.body))
                continue
            before = Ed25519PublicKey.from_public_bytes(base64.b64decode(event.get("key")))
            for one, key in led_to({key_id(before): Key(public=before)}, line, name).items():
                imported[one] = replace(key, until=min(key.until or event.seq, event.seq))
            line = []
        return {**imported, **led_to(given, line, name)}
    except Tampered as error:
        raise LedgerBroken(f"The record was tampered with. {error}", error.seq) from error


def newest(connection: Connection) -> Signed | None:
    """The last checkpoint made, as stored; its signature is not checked here."""
    row = connection.execute(sa.select(checkpoints).order_by(checkpoints.c.seq.desc()).limit(1)).one_or_none()
    return _stored(connection, row) if row else None


def _stored(connection: Connection, row: sa.Row[tuple[object, ...]]) -> Signed:
    found = Checkpoint(
        ledger=ledger_id(connection), seq=row.seq, hash=row.hash, at=row.at, key=row.key, epoch=row.epoch
    )
    return Signed(checkpoint=found, text=row.signed)


def create(database: Database, settings: Settings, *, at: datetime) -> Signed:
    """Sign the present end of the ledger; where the last checkpoint is already about it, that one is returned.

    Only what continues the last checkpoint, event by event, is signed: history that was written again is not.

    Raises:
        LedgerBroken: the ledger does not continue what was signed before.
        BadInput: there is no event yet.
    """
    with database.reading() as connection:
        seq, head = ledger.head(connection)
        last = newest(connection)
        try:
            keys = reached(connection, own_key(settings))
            if last:
                _require_genuine(last, keys)
            _require_in_use(settings, keys, seq)
            _require_continued(connection, last, seq, head)
        except Tampered as error:
            raise LedgerBroken(f"The ledger does not verify, and was not signed. {error}") from error
        if seq == 0:
            raise BadInput("The ledger holds no event yet, so there is nothing to sign.")
        if last and last.checkpoint.seq == seq:
            return last
        name, epoch = ledger_id(connection), epochs.at(connection, seq)
    moment = at.isoformat(timespec="milliseconds")
    signed = _sign(_private_key(settings), ledger_id=name, seq=seq, head=head, at=moment, epoch=epoch)
    try:
        with database.writing() as connection:
            keep(connection, signed)
    except IntegrityError:  # another process signed the same event first; what it says differs in the time only
        with database.reading() as connection:
            row = connection.execute(sa.select(checkpoints).where(checkpoints.c.seq == seq)).one()
            return _stored(connection, row)
    return signed


def keep(connection: Connection, signed: Signed) -> None:
    """Store a checkpoint. Raises IntegrityError where one about the same event is kept."""
    repeated = [column.name for column in checkpoints.c if column is not checkpoints.c.signed]
    values = {name: getattr(signed.checkpoint, name) for name in repeated}
    connection.execute(checkpoints.insert().values(**values, signed=signed.text))


def _sign(key: Ed25519PrivateKey, *, ledger_id: str, seq: int, head: str, at: str, epoch: int = 1) -> Signed:
    checkpoint = Checkpoint(ledger=ledger_id, seq=seq, hash=head, at=at, key=key_id(key.public_key()), epoch=epoch)
    signature = base64.b64encode(key.sign(canonical(checkpoint.as_json()))).decode()
    text = canonical({"checkpoint": checkpoint.as_json(), "signature": signature}).decode()
    return Signed(checkpoint=checkpoint, text=text)


def _require_genuine(stored: Signed, keys: Keys) -> None:
    seq, key = stored.checkpoint.seq, stored.checkpoint.key
    if key not in keys:
        raise Tampered(
            f"The checkpoint of event #{seq} is signed with key {key}, and no rotation leads there from the present "
            "one. Where the key was changed, 'signoff ledger rotate-key' records that; it needs the key before.",
            seq,
        )
    if checkpoint_in(stored.text, keys, seq=seq) != stored.checkpoint:
        raise Tampered(f"The checkpoint kept for #{seq} is filed as something else than was signed.", seq)


def _require_in_use(settings: Settings, keys: Keys, seq: int) -> None:
    (own,) = own_key(settings)
    until = keys[own].until
    if until is not None and seq > until:
        raise LedgerBroken(
            f"This Signoff signs with key {own}, which was replaced at event #{until}: start it with the new key.", seq
        )


def _require_continued(connection: Connection, last: Signed | None, seq: int, head: str) -> None:
    """Raise `Tampered` unless the events lead from the last checkpoint to the head."""
    chain = Chain()
    if last:
        Chain(*_at(connection, last.checkpoint.seq)).end(last.checkpoint)
        chain = Chain(last.checkpoint.seq, last.checkpoint.hash, last.checkpoint.epoch)
    for _ in ledger.follow(connection, chain, until=seq):
        pass
    ledger.require_end(connection, (seq, head), chain)


def _at(connection: Connection, seq: int) -> tuple[int, str, int]:
    """Number and hash of event ``seq``, or of the last one before it, and the epoch."""
    row = connection.execute(
        sa.select(events.c.seq, events.c.hash).where(events.c.seq <= seq).order_by(events.c.seq.desc()).limit(1)
    ).one_or_none()
    return (row.seq, row.hash, epochs.at(connection, row.seq)) if row else (0, GENESIS, 1)


class Verified(NamedTuple):
    """What `verify` found: the head, and the last checkpoint on the way there, whose signature was checked."""

    seq: int
    head: str
    point: Checkpoint | None


def verify(
    database: Database,
    keys: Keys,
    *,
    since: Checkpoint | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Read the live ledger again, compare it with every checkpoint kept and, where all is read, the tables with it.

    What MLflow witnessed is `witness`' part: whoever can write this database can delete checkpoints too.

    Args:
        since: a ``point`` that an earlier call in this process returned: only what comes after it is read. None: all.
        progress: called now and then with how many events were read since the last call.

    Raises:
        Tampered: an event was edited, deleted, inserted or moved, or history no longer is what was signed.
        Differs: the record is whole, and the tables beside it say something else.
        LedgerBroken: the ledger's head is none.
    """
    start = since.seq if since else 0
    with database.reading(at_once=True) as connection:
        end = ledger.head(connection)
        query = sa.select(checkpoints).where(checkpoints.c.seq > start).order_by(checkpoints.c.seq)
        kept = [_stored(connection, row) for row in connection.execute(query)]
        for stored in kept:
            _require_genuine(stored, keys)
        signed = {stored.checkpoint.seq: stored.checkpoint for stored in kept}
        chain, point, replay = Chain(), since, None if since else Replay()
        if since:
            chain = Chain(*_at(connection, since.seq))
            chain.end(since)
        for event in ledger.follow(connection, chain, until=end[0]):
            if replay:
                replay.add(event)
            if found := signed.pop(event.seq, None):
                chain.end(found)
                point = found
            if event.seq % 1000 == 0:
                progress(1000)
        ledger.require_end(connection, end, chain)
        differences = replay.differences(connection) if replay else []
    # A checkpoint read a moment after the head can be ahead of it by what was appended meanwhile, never for good.
    if signed:
        with database.reading() as connection:
            last = max(signed)
            Chain(*_at(connection, last)).end(signed[last])
    if differences:
        raise Differs(differences, end[0])
    return Verified(*end, point)
