"""How a child process tells the person at the terminal something, through a pipe that is otherwise a log."""

from __future__ import annotations

PROGRESS, FAILURE = "signoff: ", "signoff! "


def progress(text: str) -> None:
    """One line of progress."""
    print(f"{PROGRESS}{text}", flush=True)


def failure(text: str) -> None:
    """One sentence that ends the whole stack."""
    print(f"{FAILURE}{text}", flush=True)
