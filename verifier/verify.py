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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from verifier.canonical import canonical

GENESIS = "0" * 64
"""The ``previous`` of the first event."""
CHECKPOINT_TYPE = "signoff-checkpoint/1"
"""What a checkpoint says it is, so that a signature of this key means nothing else."""
MAX_LINE = 64 << 20
"""Longest line read, in bytes: a file must not decide how much memory is used."""

Keys = Mapping[str, Ed25519PublicKey]
"""Public keys by `key_id`."""

_EVENT = re.compile(rb'\{"body":(\{.*\}),"hash":"([0-9a-f]{64})"\}\r?\n?', re.DOTALL)


class Tampered(Exception):
    """The record is not what was recorded. ``str(error)`` is one sentence; ``seq`` the event it was seen at."""

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq


class UnusableKey(Exception):
    """The file given as public key holds none."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A signed statement: at ``at`` (ISO 8601 UTC) the ledger ended with event ``seq``, whose hash is ``hash``."""

    ledger: str
    seq: int
    hash: str
    at: str
    key: str

    def as_json(self) -> dict[str, Any]:
        """What is signed, as `canonical` JSON."""
        return {
            "type": CHECKPOINT_TYPE,
            "ledger": self.ledger,
            "seq": self.seq,
            "hash": self.hash,
            "at": self.at,
            "key": self.key,
        }


class Chain:
    """The events read so far: ``seq`` is the number of the last one, ``head`` its hash."""

    def __init__(self, seq: int = 0, head: str = GENESIS) -> None:
        self.seq = seq
        self.head = head

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


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key: the start of the sha256 of its 32 bytes, in hex."""
    return _sha256(key.public_bytes_raw())[:16]


def keys_in(pem: bytes) -> Keys:
    """The Ed25519 public keys of a PEM file, which can hold several; raises `UnusableKey` where there is none."""
    blocks = re.findall(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", pem, re.DOTALL)
    try:
        keys = [load_pem_public_key(block + b"\n") for block in blocks]
    except ValueError:
        raise UnusableKey("The public key cannot be read.") from None
    found = {key_id(key): key for key in keys if isinstance(key, Ed25519PublicKey)}
    if not found:
        raise UnusableKey("There is no Ed25519 public key in PEM form.")
    return found


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
        claimed = Checkpoint(**{name: signed[name] for name in ("ledger", "seq", "hash", "at", "key")})
        exact = base64.b64encode(signature).decode() == encoded  # its last character has bits that decoding ignores
        shaped = exact and not document and signed == claimed.as_json() and type(claimed.seq) is int
        message = canonical(signed)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Tampered("The checkpoint cannot be read.", seq) from None
    if not shaped:
        raise Tampered("The checkpoint is none of Signoff's.", seq)
    key = keys.get(claimed.key) if isinstance(claimed.key, str) else None
    if key is None:
        raise Tampered(f"The checkpoint is signed with another key ({str(claimed.key)[:16]}).", seq)
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise Tampered("The checkpoint's signature does not fit: it was changed or forged.", seq) from None
    return claimed


def verify(
    file: BinaryIO,
    keys: Keys,
    *,
    progress: Callable[[int], None] = lambda _: None,
    each: Callable[[bytes, str, dict[str, Any]], None] = lambda *_: None,
) -> Checkpoint:
    """Read a whole export, a line at a time; returns the checkpoint it ends in.

    Args:
        progress: called now and then with the bytes read since the last call.
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
            checkpoint = checkpoint_in(line, keys, seq=chain.seq)
            chain.end(checkpoint)
            if file.read(1):
                raise Tampered("Something follows the checkpoint: events were added.", chain.seq + 1)
            progress(read)
            return checkpoint
        if document.keys() != {"body", "hash"}:
            raise Tampered(f"Line {chain.seq + 1} is no event: it was changed.", chain.seq + 1)
        try:
            body = canonical(document["body"])
        except (ValueError, TypeError):
            raise Tampered(f"Event #{chain.seq + 1} cannot be read: it was changed.", chain.seq + 1) from None
        each(body, document["hash"], chain.add(body, document["hash"]))
    raise Tampered("The file does not end in its checkpoint: it was cut off.", chain.seq + 1)


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
    each: Callable[[bytes, str, dict[str, Any]], None] = lambda *_: None,
) -> Checkpoint:
    """`verify` for a file by its path. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return verify(file, keys, progress=progress, each=each)
