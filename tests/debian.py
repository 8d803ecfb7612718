"""What tests need and Debian has: installed where we may, by one worker at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def found_or_installed(look: Callable[[], Found | None], package: str) -> Found | None:
    """What ``look`` finds, after installing ``package`` if it found nothing and we may; None where that fails."""
    if found := look():
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    with Path(tempfile.gettempdir(), "signoff-tests-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second apt-get would fail, and its tests would be skipped
        if found := look():
            return found
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", package]):
            subprocess.run(["apt-get", *arguments], check=False, env=quiet, capture_output=True)
    return look()
