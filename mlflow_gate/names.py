"""The names that policies use, as Signoff told them last, and the copy on disk for a server that starts without it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlflow_gate.letters import skeleton

MAX_BYTES = 1 << 20

log = logging.getLogger("mlflow_gate")


@dataclass(frozen=True)
class Names:
    """Aliases, keys of tags of registered models, and ids of Signoff's own experiments, as it told them."""

    aliases: frozenset[str]
    model_tags: frozenset[str]
    experiments: frozenset[str] = frozenset()

    @classmethod
    def told(cls, document: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError` for anything but lists of text; that of experiments came later."""
        return cls(_texts(document["aliases"]), _texts(document["model_tags"]), _texts(document.get("experiments", [])))

    def protects(self, alias: str) -> bool:
        """Whether an alias is one that a policy names, or looks like one."""
        return skeleton(alias) in map(skeleton, self.aliases)

    def chooses(self, key: str) -> bool:
        """Whether policies are chosen by a tag of registered models."""
        return key in self.model_tags


class Kept:
    """The last names that one gate told, in a file that nobody but this account may write.

    Anything else that is found there is as if nothing were: then every alias and every such tag is asked about.
    """

    def __init__(self, path: Path, gate: str) -> None:
        self.path, self._gate = path, gate

    @classmethod
    def at(cls, path: str, gate: str) -> Kept | None:
        """At ``path``, or where this account keeps what programs remember; None where it has no such place."""
        if path:
            return cls(Path(path), gate)
        try:
            state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        except RuntimeError:
            return None
        return cls(state / "signoff-gate" / f"names-{hashlib.sha256(gate.encode()).hexdigest()[:12]}.json", gate)

    def read(self) -> Names | None:
        """What is kept; None where there is nothing, or nothing that this gate told and only this account wrote."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    raise ValueError("others may write it")
                document = json.loads(file.read(MAX_BYTES))
            if document["gate"] != self._gate:
                raise ValueError("another gate told them")
            return Names.told(document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the names kept in %s are not used: %s: %s", self.path, type(error).__name__, error)
            return None

    def write(self, names: Names) -> None:
        """Keep these from now on. Never raises: a place that cannot be written keeps nothing."""
        document = {
            "gate": self._gate,
            "aliases": sorted(names.aliases),
            "model_tags": sorted(names.model_tags),
            "experiments": sorted(names.experiments),
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix=f"{self.path.name}.", dir=self.path.parent)  # of mode 0600
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(document, file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(path).replace(self.path)
            except BaseException:
                Path(path).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning("the protected names cannot be kept in %s: %s", self.path, error)


def _texts(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("not a list of text")
    return frozenset(value)
