"""Is this record what was recorded? Follows the chain of hashes, and checks the signature at its end.

An export is JSON Lines: ``{"body": {…}, "hash": "…"}`` for each event, oldest first, then
``{"checkpoint": {…}, "signature": "…"}``. The public key comes from elsewhere, never from the export.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from cryptography.exceptions import InvalidSignature

from verifier.canonical import canonical
from verifier.keys import (
    IMPORTED,
    ROTATION,
    Keys,
    Rotation,
    Tampered,
    UnusableKey,
    key_id,
    keys_in,
    led_to,
    rotation_in,
)

__all__ = ["Chain", "Checkpoint", "Keys", "Tampered", "UnusableKey", "checkpoint_in", "key_id", "keys_in", "verify"]

GENESIS = "0" * 64
"""The ``previous`` of the first event."""
CHECKPOINT_TYPE = "signoff-checkpoint/1"
"""What a checkpoint says it is, so that a signature of this key means nothing else."""
RESTORED = "ledger:restored"
"""The kind of an event in which a person states that events were lost; it opens an epoch."""
MAX_LINE = 64 << 20
"""Longest line read, in bytes: a file must not decide how much memory is used."""

_EVENT = re.compile(rb'\{"body":(\{.*\}),"hash":"([0-9a-f]{64})"\}\r?\n?', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A signed statement: at ``at`` (ISO 8601 UTC) the ledger ended with event ``seq``, whose hash is ``hash``.

    ``epoch`` is 1 until a person states that witnessed events were lost; only later ones are written down.
    """

    ledger: str
    seq: int
    hash: str
    at: str
    key: str
    epoch: int = 1

    def as_json(self) -> dict[str, Any]:
        """What is signed, as `canonical` JSON."""
        return {
            "type": CHECKPOINT_TYPE,
            "ledger": self.ledger,
            "seq": self.seq,
            "hash": self.hash,
            "at": self.at,
            "key": self.key,
            **({"epoch": self.epoch} if self.epoch != 1 else {}),
        }


class Chain:
    """The events read so far: ``seq`` is the number of the last one, ``head`` its hash, ``epoch`` the one it is in.

    ``rotations`` are those of the signing key among them; ``restorations`` says what was lost before each later epoch.
    """

    def __init__(self, seq: int = 0, head: str = GENESIS, epoch: int = 1) -> None:
        self.seq = seq
        self.head = head
        self.rotations: list[Rotation] = []
        self.epoch = epoch
        self.restorations: list[str] = []

    def add(self, body: bytes, fingerprint: str, *, exact: bool = False) -> dict[str, Any]:
        """Take the next event; returns its content. Raises `Tampered` where it cannot be the next one.

        ``exact``: the bytes must be those that were recorded, and not the same content formatted anew.
        """
        expected = self.seq + 1
        try:
            # Bytes that fit the hash are the very bytes that were recorded: no need to look for doubled keys in them.
            whole = _sha256(body) == fingerprint
            event = json.loads(body) if whole else parsed(body)
            whole = whole or (not exact and _sha256(canonical(event)) == fingerprint)
            seq, previous = event["seq"], event["previous"]
            restoration = restoration_in(event) if event.get("kind") == RESTORED else None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Tampered(f"Event #{expected} cannot be read: it was changed.", expected) from None
        if not whole:
            raise Tampered(f"Event #{expected} does not fit its hash: it was changed.", expected)
        if type(seq) is not int or seq != expected:
            what = f"#{seq} comes where #{expected} belongs"
            cause = "was deleted or moved" if isinstance(seq, int) and seq > expected else "was inserted or moved"
            raise Tampered(f"{what}: an event {cause}.", expected)
        if previous != self.head:
            raise Tampered(
                f"Event #{expected} does not follow the one before it: one of the two was replaced.", expected
            )
        if event.get("kind") == ROTATION:
            self.rotations.append(rotation_in(event))
        if event.get("kind") == IMPORTED:
            self.rotations.clear()
        if restoration:
            self.epoch, words = restoration
            self.restorations.append(words)
        self.seq, self.head = expected, fingerprint
        return event

    def end(self, checkpoint: Checkpoint) -> None:
        """Compare with a checkpoint that is about the last event; raises `Tampered` where they differ."""
        if checkpoint.seq != self.seq:
            raise Tampered(
                f"The checkpoint is about {checkpoint.seq} events and there are {self.seq}: "
                f"events were {'cut off' if checkpoint.seq > self.seq else 'added'}.",
                min(checkpoint.seq, self.seq) + 1,
            )
        if checkpoint.hash != self.head:
            raise Tampered(f"Event #{self.seq} is not the one that was signed: history was written again.", self.seq)
        if checkpoint.epoch != self.epoch:
            raise Tampered(
                f"The checkpoint is of epoch {checkpoint.epoch} and the events of epoch {self.epoch}.", self.seq
            )


def restoration_in(event: Mapping[str, Any]) -> tuple[int, str]:
    """The epoch that an event of the kind `RESTORED` opens, and in words what was lost before.

    Raises:
        KeyError, TypeError, ValueError: it says neither.
    """
    details = event["details"]
    epoch, runs = int(details["epoch"]), list(details["runs"])
    lost = []
    if details["last"] is not None:
        lost.append(
            f"MLflow witnessed events up to #{int(details['last'])} (hash {details['hash']}), and this ledger is known "
            f"to agree up to #{int(details['first']) - 1}: what it lacks of them was lost when a backup was restored"
        )
    if runs:
        lost.append(f"what witnessed the ledger in MLflow was lost (run {', '.join(map(str, runs))})")
    said = f"{event['actor_name']} stated so in event #{event['seq']} at {event['at']}: {event['comment']}"
    return epoch, f"Epoch {epoch}: {' and '.join(lost)}. {said}"


def parsed(text: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for anything else, and for a key given twice, which readers take differently."""
    value = json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_refused)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def checkpoint_in(text: bytes | str, keys: Keys, *, seq: int = 0) -> Checkpoint:
    """A signed checkpoint, its signature checked.

    Raises:
        Tampered: not a checkpoint, signed with none of ``keys``, or with a signature that does not fit; ``seq`` says
            where it stood.
    """
    try:
        document = parsed(text)
        signed, encoded = document.pop("checkpoint"), document.pop("signature")
        signature = base64.b64decode(encoded, validate=True)
        claimed = Checkpoint(
            **{name: signed[name] for name in ("ledger", "seq", "hash", "at", "key")}, epoch=signed.get("epoch", 1)
        )
        exact = base64.b64encode(signature).decode() == encoded  # its last character has bits that decoding ignores
        whole = type(claimed.seq) is int and type(claimed.epoch) is int
        shaped = exact and not document and signed == claimed.as_json() and whole
        message = canonical(signed)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Tampered("The checkpoint cannot be read.", seq) from None
    if not shaped:
        raise Tampered("The checkpoint is none of Signoff's.", seq)
    key = keys.get(claimed.key) if isinstance(claimed.key, str) else None
    if key is None:
        raise Tampered(
            f"The checkpoint of event #{claimed.seq} is signed with another key ({str(claimed.key)[:16]}), "
            "which no rotation on record leads to from the one given.",
            seq,
        )
    try:
        key.public.verify(signature, message)
    except InvalidSignature:
        raise Tampered("The checkpoint's signature does not fit: it was changed or forged.", seq) from None
    if not key.since <= claimed.seq <= (claimed.seq if key.until is None else key.until):
        until = "" if key.until is None else f" to #{key.until}"
        raise Tampered(
            f"The checkpoint of event #{claimed.seq} is signed with key {claimed.key}, which is honoured for events "
            f"#{key.since}{until} only.",
            seq,
        )
    return claimed


def verify(
    file: BinaryIO,
    keys: Keys,
    *,
    progress: Callable[[int], None] = lambda _: None,
    restored: Callable[[str], None] = lambda _: None,
    each: Callable[[bytes, str, dict[str, Any]], None] = lambda *_: None,
) -> Checkpoint:
    """Read a whole export, a line at a time; returns the checkpoint it ends in.

    Args:
        progress: called now and then with the bytes read since the last call.
        restored: called with a sentence about each epoch after the first: what was lost before it.
        each: called with every event that follows the one before it: its canonical bytes, its hash and its content.
            Whether it was signed is known at the end only.

    Raises:
        Tampered: an event was edited, deleted, inserted or moved, the file was cut off, or the signature does not fit.
    """
    chain, read = Chain(), 0
    for line in _lines(file):
        read += len(line)
        if read >= 1 << 20:
            progress(read)
            read = 0
        if fast := _EVENT.fullmatch(line):
            each(fast[1], fast[2].decode(), chain.add(fast[1], fast[2].decode()))
            continue
        try:
            document = parsed(line)
        except (ValueError, RecursionError):
            raise Tampered(f"Line {chain.seq + 1} cannot be read: it was changed.", chain.seq + 1) from None
        if document.keys() == {"checkpoint", "signature"}:
            checkpoint = checkpoint_in(line, led_to(keys, chain.rotations, _ledger(document)), seq=chain.seq)
            chain.end(checkpoint)
            if file.read(1):
                raise Tampered("Something follows the checkpoint: events were added.", chain.seq + 1)
            progress(read)
            for words in chain.restorations:
                restored(words)
            return checkpoint
        if document.keys() != {"body", "hash"}:
            raise Tampered(f"Line {chain.seq + 1} is no event: it was changed.", chain.seq + 1)
        try:
            body = canonical(document["body"])
        except (ValueError, TypeError):
            raise Tampered(f"Event #{chain.seq + 1} cannot be read: it was changed.", chain.seq + 1) from None
        each(body, document["hash"], chain.add(body, document["hash"]))
    raise Tampered("The file does not end in its checkpoint: it was cut off.", chain.seq + 1)


def _ledger(document: dict[str, Any]) -> str:
    """The ledger that a checkpoint says it is about; its signature is checked afterwards."""
    signed = document["checkpoint"]
    return str(signed.get("ledger")) if isinstance(signed, dict) else ""


def _lines(file: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise Tampered(f"Line {number} is longer than any event.", number)
        yield line


def verify_file(
    path: Path,
    keys: Keys,
    *,
    progress: Callable[[int], None] = lambda _: None,
    restored: Callable[[str], None] = lambda _: None,
    each: Callable[[bytes, str, dict[str, Any]], None] = lambda *_: None,
) -> Checkpoint:
    """`verify` for a file by its path. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return verify(file, keys, progress=progress, restored=restored, each=each)
