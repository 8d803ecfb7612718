"""The files of a version, hashed as they arrive: no file is ever whole in memory, however large."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from services import documents
from services.domain import ArtifactEntry, ArtifactFile, Description, VersionRef
from services.errors import BadInput, RegistryUnavailable, UnreadableModel
from services.evidence import Manifest
from services.mlflow import entities as read
from services.progress import Progress, tell

DESCRIPTION = "MLmodel"
MAX_DESCRIPTION = 4_000_000
"""Bytes of the one file that is read whole, to be parsed; MLflow writes a few thousand, and 70 for each column."""


def saved(chunks: Iterable[bytes], folder: Path, path: str, *, max_bytes: int) -> Iterator[bytes]:
    """The same chunks, each written to ``path`` inside ``folder`` on its way.

    Raises:
        BadInput: the path leads out of the folder, or there are more than ``max_bytes``.
    """
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise BadInput(f"The artifact {path[:200]!r} would lie outside its model; nothing was read.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in chunks:
            if file.tell() + len(chunk) > max_bytes:
                raise BadInput(f"The artifact {path[:200]!r} has more than {max_bytes} bytes.")
            file.write(chunk)
            yield chunk


class ManifestReading:
    """One pass over the files of a version, which were listed as ``entries``: give it each, then ask `manifest`."""

    def __init__(self, ref: VersionRef, entries: Iterable[ArtifactEntry]) -> None:
        self._ref = ref
        self._sizes = {entry.path: entry.size for entry in entries}
        self._total = sum(self._sizes.values())
        self._done = 0
        self._files: list[ArtifactFile] = []
        self._description: bytes | None = None

    def file(self, path: str, chunks: Iterable[bytes]) -> None:
        """Hash one file. After a failure it may be given again, from its beginning.

        Raises:
            RegistryUnavailable: it has another size than was listed: cut short, or changed while it was read.
            UnreadableModel: ``MLmodel`` is far too large to be one.
        """
        digest, size, kept = hashlib.sha256(), 0, bytearray()
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if path == DESCRIPTION:
                kept += chunk
                if len(kept) > MAX_DESCRIPTION:
                    raise UnreadableModel(f"The MLmodel file of {self._ref} is larger than any MLflow writes.")
            tell(Progress(ref=self._ref, done=self._done + size, total=self._total))
        if self._sizes.get(path) and self._sizes[path] != size:
            raise RegistryUnavailable(
                f"MLflow lists {path} of {self._ref} with {self._sizes[path]} bytes and gave {size}."
            )
        self._done += size
        self._files.append(ArtifactFile(path=path, size=size, sha256=digest.hexdigest()))
        if path == DESCRIPTION:
            self._description = bytes(kept)

    def manifest(self) -> Manifest:
        """What was read, by path; raises `UnreadableModel` when ``MLmodel`` is there and makes no sense."""
        said = described(self._ref, self._description) if self._description is not None else Description()
        return Manifest(
            files=tuple(sorted(self._files, key=lambda file: file.path)),
            signature=said.signature,
            has_input_example=said.has_input_example,
            named=said.named,
            outside=said.outside,
        )


def described(ref: VersionRef, description: bytes) -> Description:
    """What an ``MLmodel`` file says; raises `UnreadableModel` when that makes no sense."""
    try:
        document = documents.foreign(description)
        named = tuple(read.named(document))
        return Description(
            signature=read.signature(document.get("signature")),
            has_input_example=bool(document.get("saved_input_example_info")),
            named=tuple(path for path in named if not read.leads_out(path)),
            outside=tuple(dict.fromkeys((*filter(read.leads_out, named), *read.elsewhere(document)))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f": {str(error)[:200]}" if isinstance(error, documents.NotYaml) else ""
        raise UnreadableModel(
            f"The MLmodel file of {ref} makes no sense, so nobody can say what the model is{why}. Log the model again."
        ) from error
