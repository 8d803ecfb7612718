"""The terminal's door, also as ``python cli.py``: ``signoff ledger verify`` … What it can do is in ``commands/``."""

from commands import main

if __name__ == "__main__":
    main()
