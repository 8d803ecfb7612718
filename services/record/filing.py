"""Which events tell of what, by what they say under their seals, and not by the columns they are searched by.

A person who can write our tables can file an event elsewhere, have something decided without it, and file it back. So
what decides finds its events here. Each process reads every event once, then those that came, and keeps numbers only.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.domain import VersionRef
from services.record import ledger
from services.record.ledger import Event, Kind
from services.record.projections import releases, reviews
from services.record.seals import Seals
from verifier.verify import GENESIS, Chain, Tampered

Key = tuple[str, ...]
"""What events tell of, as the functions below name it."""
ALL_ACCOUNTS: Key = ("accounts",)
"""How every account is."""
ANY_ACCOUNT: Key = ("account",)
"""How any one account is."""

_LAST = sa.select(tables.events.c.seq, tables.events.c.hash).order_by(tables.events.c.seq.desc()).limit(1)
_HASH = sa.select(tables.events.c.hash).where(tables.events.c.seq == sa.bindparam("seq"))
_ABOUT_A_VERSION = frozenset({*reviews.WRITES, *releases.WRITES})
_ABOUT_A_MODEL = frozenset({Kind.OUTSIDE_DELETED, Kind.ADOPTION_RECORDED})
_ABOUT_BYTES = frozenset({Kind.SUBMISSION_CONFIRMED, Kind.CHANGES_REQUESTED})
_BYTES = ("manifest_digest", "run_id", "model_id")


def about_version(ref: VersionRef) -> tuple[Key, Key]:
    """What rows about a version follow from; what is said of its whole model can end its review."""
    return ("version", ref.name, str(ref.version)), ("model", ref.name)


def about_bytes(manifest: str | None, run_id: str | None, model_id: str | None) -> tuple[Key, ...]:
    """Submissions of the same files, run or logged model, and findings in them."""
    values = zip(_BYTES, (manifest, run_id, model_id), strict=True)
    return tuple((part, value) for part, value in values if value)


def about_account(username: str) -> Key:
    """How one account is."""
    return ("account", username)


def about_policy_of(model: str) -> Key:
    """Which policy judges a model."""
    return ("policy", model)


def closing(intent: str) -> Key:
    """How an intent ended."""
    return ("closes", intent)


def events(connection: Connection, *keys: Key) -> list[Event]:
    """The events that tell of any of these, oldest first.

    Raises:
        LedgerBroken: one of them, or one that this process reads for the first time, was changed, moved or deleted.
    """
    told = require_whole(connection, keys)
    return read(connection, {number for key in keys for number in told[key]})


def read(connection: Connection, wanted: Collection[int]) -> list[Event]:
    """The events of these `numbers`, oldest first; raises `LedgerBroken` for one that is gone or is not the same."""
    found = ledger.numbered(connection, wanted)
    hashes = _filing(connection).hashes
    known = {number: bytes(hashes[(number - 1) * 32 : number * 32]) for number in wanted}
    for event in found:
        if known.pop(event.seq) not in {b"", bytes.fromhex(event.hash)}:
            raise ledger.noticed(connection, Tampered(f"Event #{event.seq} was replaced by another one.", event.seq))
    if known:
        raise ledger.noticed(connection, Tampered(f"Event #{min(known)} is gone: it was deleted.", min(known)))
    return found


def require_whole(connection: Connection, keys: Collection[Key] = ()) -> dict[Key, list[int]]:
    """`numbers`; raises `LedgerBroken` where an event that this process reads now is not as Signoff wrote it."""
    told, broken = numbers(connection, keys)
    if broken:
        raise ledger.noticed(connection, broken)
    return told


def numbers(connection: Connection, keys: Collection[Key]) -> tuple[dict[Key, list[int]], Tampered | None]:
    """The same by their numbers, in order, and the first event that Signoff did not write: they are read up to it."""
    filing = _filing(connection)
    last = connection.execute(_LAST).one_or_none()
    with filing.lock:
        broken = filing.catch_up(connection, (last.seq, last.hash)) if last else None
        return {
            key: [number for number in filing.told.get(key, ()) if last and number <= last.seq] for key in keys
        }, broken


class _Filing:
    """What one process read of one ledger. Its threads share it.

    ``hashes`` has those of all events, one after another: a writer of the database may have had two genuine events made
    of one number.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self.told = defaultdict[Key, list[int]](list)
        self.hashes = bytearray()
        self._read = (0, GENESIS)

    def catch_up(self, connection: Connection, last: tuple[int, str]) -> Tampered | None:
        """Take up the events up to ``last``; returns what stopped that."""
        seq, fingerprint = last
        if seq <= self._read[0] and self.hashes[(seq - 1) * 32 : seq * 32].hex() == fingerprint:
            return None  # a snapshot from before has less
        if seq <= self._read[0] or connection.execute(_HASH, {"seq": self._read[0]}).scalar() != self._read[1]:
            self._forget()  # its transaction was rolled back
        try:
            for event in ledger.follow(connection, Chain(*self._read)):
                for key in _keys(event):
                    self.told[key].append(event.seq)
                self.hashes += bytes.fromhex(event.hash)
                self._read = (event.seq, event.hash)
        except Tampered as error:
            return error
        return None


def _keys(event: Event) -> Iterator[Key]:
    kind, ref = event.kind, event.ref
    if ref and kind in _ABOUT_A_VERSION:
        yield about_version(ref)[0]
    if ref and kind in _ABOUT_A_MODEL:
        yield about_version(ref)[1]
    if kind in _ABOUT_BYTES:
        yield from about_bytes(*map(event.get, _BYTES))
    if kind in ledger.ACCOUNT:
        yield about_account(event.get("account"))
        yield ANY_ACCOUNT
    if kind is Kind.ACCOUNTS_BASELINE:
        yield ALL_ACCOUNTS
    if kind is Kind.POLICY_ASSIGNED:
        yield from map(about_policy_of, event.get("models") or [event.body["model"]])
    if event.body["closes"]:
        yield closing(event.body["closes"])


_lock = threading.Lock()
_filings: WeakKeyDictionary[Seals, _Filing] = WeakKeyDictionary()


def _filing(connection: Connection) -> _Filing:
    with _lock:
        return _filings.setdefault(ledger.seals_of(connection), _Filing())
