"""The seal of an event: proof that Signoff appended it, made with a key that is not in the database."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from verifier.verify import Tampered

KEY_BYTES = 32


class Seals:
    """Makes seals with the present secret key, and knows those made with it or with an earlier one."""

    def __init__(self, secret: bytes, earlier: Iterable[bytes] = ()) -> None:
        self.last = ""
        """The hash of the event that was appended last with these seals, so that `ledger.append` need not read it."""
        self.noticed: Tampered | None = None
        """What was read last that is none of our events, for `condition`; None: nothing since it read all of them."""
        self._keys = tuple(_derived(one) for one in (secret, *earlier))

    def seal(self, ledger: str, fingerprint: str) -> str:
        """The seal, in hex, of the event with this hash in the ledger of this name.

        The hash covers the event and, through its ``previous``, every event before it.
        """
        return _seal(self._keys[0], ledger, fingerprint)

    def genuine(self, ledger: str, fingerprint: object, seal: object) -> bool:
        """Whether ``seal`` was made for this hash in this ledger. Anything that is no text is false."""
        if not (isinstance(fingerprint, str) and isinstance(seal, str) and seal.isascii()):
            return False
        return any(hmac.compare_digest(_seal(key, ledger, fingerprint), seal) for key in self._keys)


def _derived(secret: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"signoff event seal 1").derive(secret)


def _seal(key: bytes, ledger: str, fingerprint: str) -> str:
    return hmac.digest(key, f"{ledger}:{fingerprint}".encode("utf-8", "surrogatepass"), "sha256").hex()
