"""The keys that sign checkpoints: which of them may sign which events, by the rotations that the record itself holds.

A rotation is an event signed by the old and by the new key. The old one is honoured up to that event's number, and
from the key that a verifier was given the others follow.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from verifier.canonical import canonical

ROTATION = "key:rotated"
"""The kind of an event that replaces the key."""
IMPORTED = "ledger:imported"
"""The kind of an event that follows an imported record: from there on, no key from before signs."""
ROTATION_TYPE = "signoff-key-rotation/1"
"""What the statement of a rotation says it is, so that its signatures mean nothing else."""


class Tampered(Exception):
    """The record is not what was recorded. ``str(error)`` is one sentence; ``seq`` the event it was seen at."""

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq


class UnusableKey(Exception):
    """The file given as public key holds none."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A public key, and the numbers of the events that it may sign for: from ``since`` to ``until``, both included."""

    public: Ed25519PublicKey
    since: int = 0
    until: int | None = None


Keys = Mapping[str, Key]
"""Keys by `key_id`."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """In the ledger of this name, event ``seq`` replaced one key by another; both said so."""

    ledger: str
    seq: int
    old: Ed25519PublicKey
    new: Ed25519PublicKey


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key: the start of the sha256 of its 32 bytes, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def keys_in(pem: bytes) -> Keys:
    """The Ed25519 public keys of a PEM file, which can hold several; raises `UnusableKey` where there is none."""
    blocks = re.findall(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", pem, re.DOTALL)
    try:
        keys = [load_pem_public_key(block + b"\n") for block in blocks]
    except ValueError:
        raise UnusableKey("The public key cannot be read.") from None
    found = {key_id(key): Key(public=key) for key in keys if isinstance(key, Ed25519PublicKey)}
    if not found:
        raise UnusableKey("There is no Ed25519 public key in PEM form.")
    return found


def statement(ledger: str, seq: int, old: Ed25519PublicKey, new: Ed25519PublicKey) -> dict[str, Any]:
    """What both keys sign, as `canonical` JSON: from event ``seq`` of this ledger on ``new`` signs, and not ``old``."""
    return {"type": ROTATION_TYPE, "ledger": ledger, "seq": seq, "old": _encoded(old), "new": _encoded(new)}


def rotation_in(event: Mapping[str, Any]) -> Rotation:
    """What an event of the kind `ROTATION` says, both signatures checked.

    Raises:
        Tampered: it is no rotation, or one of the two keys did not sign it.
    """
    seq = event["seq"]
    try:
        said, signatures = event["details"]["statement"], event["details"]["signatures"]
        keys = {name: Ed25519PublicKey.from_public_bytes(base64.b64decode(said[name])) for name in ("old", "new")}
        if said != statement(str(said["ledger"]), seq, keys["old"], keys["new"]):
            raise ValueError("another statement")
        for name, key in keys.items():
            key.verify(base64.b64decode(signatures[name]), canonical(said))
    except (KeyError, TypeError, ValueError, InvalidSignature):
        raise Tampered(f"Event #{seq} replaces the signing key, and not both keys signed that.", seq) from None
    return Rotation(ledger=said["ledger"], seq=seq, old=keys["old"], new=keys["new"])


def led_to(given: Keys, rotations: Iterable[Rotation], ledger: str) -> Keys:
    """The keys that the rotations of a ledger, in their order, lead to from those given, forward and back.

    Rotations of another ledger, which an imported one holds, lead nowhere. A given key that was replaced is honoured
    as far as the others are.

    Raises:
        Tampered: a rotation replaces a key that was not in use, or brings one back.
    """
    line = [one for one in rotations if one.ledger == ledger]
    if not line:
        return given
    for before, after in pairwise(line):
        if key_id(before.new) != key_id(after.old):
            raise Tampered(f"Event #{after.seq} replaces a signing key that was not in use.", after.seq)
    ends: list[int | None] = [*(one.seq for one in line[1:]), None]
    found = {key_id(line[0].old): Key(public=line[0].old, until=line[0].seq)}
    for one, until in zip(line, ends, strict=True):
        if key_id(one.new) in found:
            raise Tampered(f"Event #{one.seq} brings a signing key back that was replaced before.", one.seq)
        found[key_id(one.new)] = Key(public=one.new, since=one.seq, until=until)
    return {**given, **found} if given.keys() & found.keys() else given


def _encoded(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
