"""``python -m verifier FILE --public-key FILE``: 0 verified, 1 does not verify, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verifier.verify import Tampered, UnusableKey, keys_in, verify_file


def main(arguments: list[str] | None = None) -> int:
    """Check one file and say so in a sentence; returns the exit code."""
    parser = argparse.ArgumentParser(prog="verifier", description="Checks an export of Signoff's ledger.")
    parser.add_argument("file", type=Path, help="the export: JSON Lines, the signed checkpoint last")
    parser.add_argument("--public-key", type=Path, required=True, help="PEM file, got from a person you trust")
    given = parser.parse_args(arguments)
    lost: list[str] = []
    try:
        found = verify_file(given.file, keys_in(given.public_key.read_bytes()), restored=lost.append)
    except Tampered as error:
        print(f"Does not verify. {error}", file=sys.stderr)
        return 1
    except (OSError, UnusableKey) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"Verified: {found.seq} events of ledger {found.ledger}, signed {found.at} with key {found.key}.",
        *lost,
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
