"""What a new password must be, so that it takes more than a list of common ones to guess it."""

from __future__ import annotations

from collections.abc import Iterable

from services.accounts.people import Passwords
from services.errors import BadInput

MIN_LENGTH = 12
"""Characters."""
_HARD_TO_GUESS = 3
"""Of zxcvbn's 0 to 4: more than 10^8 guesses."""


def hashed(password: str, passwords: Passwords, *, about: Iterable[str] = ()) -> str:
    """The hash of a new password.

    Args:
        about: what would be guessed first, such as the person's username and name.

    Raises:
        BadInput: it is too short, easily guessed, or longer than can be hashed.
    """
    if len(password) < MIN_LENGTH:
        raise BadInput(f"A password must have at least {MIN_LENGTH} characters; this one has {len(password)}.")
    found = passwords.hash(password)
    from zxcvbn import zxcvbn  # its lists of words take a tenth of a second

    guessed = zxcvbn(password, user_inputs=[part for words in about for part in (words, *words.split()) if part])
    if guessed["score"] < _HARD_TO_GUESS:
        why = [guessed["feedback"]["warning"], *guessed["feedback"]["suggestions"]]
        told = " ".join(f"{words.rstrip('.')}." for words in why if words)
        raise BadInput(f"This password is easily guessed. {told}".rstrip())
    return found
