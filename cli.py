"""The terminal's door: ``signoff ledger verify``, or ``python cli.py ledger verify``. What it can do is in ``commands/``."""

from commands import main

if __name__ == "__main__":
    main()
