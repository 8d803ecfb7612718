"""The signing key replaced by another, as an event that both keys sign; the old one is honoured up to its number."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.database import Database
from services.domain import Actor
from services.errors import BadInput
from services.record import checkpoints, condition, ledger
from services.record.ledger import Entry, Event, Kind
from services.registry import Registry
from services.settings import CHECKPOINT_FILE, SEED_BYTES, Settings, earlier_checkpoint_seeds, private_file
from verifier.canonical import canonical
from verifier.keys import Key, Keys, key_id, statement


def replaced(
    database: Database,
    settings: Settings,
    environ: Mapping[str, str],
    registry: Registry,
    *,
    by: Actor,
    at: datetime,
) -> tuple[Event, str]:
    """`rotate` with the keys of these settings; returns the event and the name of the new key.

    MLflow is asked first, because the old key is honoured no longer for what it witnesses beyond the rotation: in a
    database that was cut off, that proof would be gone.

    Raises:
        BadInput: the key before is not at hand, or see `rotate`.
        LedgerBroken: see `rotate`, or the record was tampered with.
        RegistryUnavailable: MLflow does not answer.
    """
    file = settings.home / CHECKPOINT_FILE
    kept = file.is_file() and not environ.get("SIGNOFF_CHECKPOINT_KEY") and _in(file) == settings.checkpoint_seed
    old = settings.checkpoint_seed if kept else _before(database, settings, environ)
    condition.require_witnessed(database, replace(settings, checkpoint_seed=old), registry, at=at)
    if kept:
        coming = file.with_name(f"{file.name}.new")  # kept before it is on record, so that a crash loses neither
        private_file(coming, base64.b64encode(secrets.token_bytes(SEED_BYTES)).decode())
        new = _in(coming)
        event = rotate(database, settings, old=old, new=new, by=by, at=at)
        coming.replace(file)
    else:
        new = settings.checkpoint_seed
        event = rotate(database, settings, old=old, new=new, by=by, at=at)
    checkpoints.publish(replace(settings, checkpoint_seed=new))
    return event, _name(new)


def _before(database: Database, settings: Settings, environ: Mapping[str, str]) -> bytes:
    """What the key is made of that signed the newest checkpoint, where it is at hand."""
    with database.reading() as connection:
        newest = checkpoints.newest(connection)
    if newest is None:
        raise BadInput("No checkpoint was signed yet, so there is no key to replace.")
    seq, key = newest.checkpoint.seq, newest.checkpoint.key
    if key == _name(settings.checkpoint_seed):
        raise BadInput(
            f"Key {key} is the present one. Set SIGNOFF_CHECKPOINT_KEY to the new key (32 bytes in base64) and "
            "SIGNOFF_EARLIER_CHECKPOINT_KEY to this one, for this command and once."
        )
    found = [seed for seed in earlier_checkpoint_seeds(settings, environ) if _name(seed) == key]
    if not found:
        raise BadInput(
            f"The newest checkpoint, of event #{seq}, is signed with key {key}, which is not at hand: name it in "
            "SIGNOFF_EARLIER_CHECKPOINT_KEY, or the secret key before in SIGNOFF_EARLIER_SECRET_KEYS. Where it is "
            "lost, 'signoff ledger import' takes an export that it signed into a new ledger."
        )
    return found[0]


def _in(file: Path) -> bytes:
    return base64.b64decode(file.read_text().strip())


def _name(seed: bytes) -> str:
    return key_id(Ed25519PrivateKey.from_private_bytes(seed).public_key())


def rotate(database: Database, settings: Settings, *, old: bytes, new: bytes, by: Actor, at: datetime) -> Event:
    """Record that the key made of ``new`` signs instead of the one made of ``old`` (32 bytes each).

    The old key signs the ledger as it is, and the new one from that event on. A rotation that is on record already is
    returned as it is, so this may be repeated.

    Raises:
        BadInput: both are the same key, the old one was replaced by another, or there is no event yet.
        LedgerBroken: the ledger does not continue what the old key signed; nothing is recorded.
    """
    before, after = Ed25519PrivateKey.from_private_bytes(old), Ed25519PrivateKey.from_private_bytes(new)
    names = key_id(before.public_key()), key_id(after.public_key())
    if names[0] == names[1]:
        raise BadInput(f"The new key is the present one ({names[0]}).")
    with database.reading() as connection:
        done = _replaced(checkpoints.reached(connection, {names[0]: Key(public=before.public_key())}), *names)
        event = ledger.event(connection, done) if done else None
    if event is None:
        checkpoints.create(database, replace(settings, checkpoint_seed=old), at=at)
        event = _recorded(database, before, after, by=by, at=at)
    checkpoints.create(database, replace(settings, checkpoint_seed=new), at=at)
    return event


def _replaced(keys: Keys, old: str, new: str) -> int | None:
    """The number of the event that replaced the one key by the other; None where the old one is in use."""
    until = keys[old].until
    if until is not None and (new not in keys or keys[new].since != until):
        raise BadInput(f"Key {old} was replaced at event #{until} by another key than {new}.")
    if until is None and new in keys:
        raise BadInput(f"Key {new} was replaced before, and cannot be brought back.")
    return until


def _recorded(
    database: Database, before: Ed25519PrivateKey, after: Ed25519PrivateKey, *, by: Actor, at: datetime
) -> Event:
    with database.writing() as connection:
        ledger.lock(connection)
        keys = checkpoints.reached(connection, {key_id(before.public_key()): Key(public=before.public_key())})
        if done := _replaced(keys, key_id(before.public_key()), key_id(after.public_key())):
            return ledger.numbered(connection, [done])[0]
        seq = ledger.head(connection)[0] + 1
        said = statement(ledger.ledger_id(connection), seq, before.public_key(), after.public_key())
        signed = {"old": before.sign(canonical(said)), "new": after.sign(canonical(said))}
        signatures = {name: base64.b64encode(one).decode() for name, one in signed.items()}
        details = {"statement": said, "signatures": signatures}
        return ledger.append(connection, Entry(kind=Kind.KEY_ROTATED, actor=by, at=at, details=details))
