"""The files of versions and runs on a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from services.domain import ArtifactEntry, VersionRef
from services.errors import BadInput, FilesUnreadable, RegistryUnavailable, UnreadableModel
from services.evidence import Manifest
from services.mlflow.artifacts import ManifestReading, saved
from services.mlflow.places import MlflowPlaces

VERSION_FILE_PATH = "/model-versions/get-artifact"
"""Where MLflow's own pages get one file of a version: the server finds out by itself where that lies."""


class MlflowFiles(MlflowPlaces):
    """The part of `services.registry.Registry` that is about files."""

    def listing(self, ref: VersionRef) -> tuple[ArtifactEntry, ...]:
        """Path and size of every file of a version, without reading any."""
        what = f"the files of {ref}"
        return tuple(self._walk(self._repository(self._folder(ref), what), what))

    def manifest(self, ref: VersionRef) -> Manifest:
        """Read and hash every file of a version, one at a time; how far it is goes to `services.progress`."""
        what = f"the files of {ref}"
        repository = self._repository(self._folder(ref), what)
        entries = list(self._walk(repository, what))
        reading = ManifestReading(ref, entries)
        for entry in entries:
            self._read(lambda path=entry.path: reading.file(path, self._chunks(repository, path, what)), what)  # type: ignore[misc]
        return reading.manifest()

    def fetch(self, ref: VersionRef, folder: Path, *, max_bytes: int) -> Manifest:
        """`manifest`, with every file written into ``folder``; raises `BadInput` for more than ``max_bytes`` in all."""
        what = f"the files of {ref}"
        repository = self._repository(self._folder(ref), what)
        entries = list(self._walk(repository, what))
        if (total := sum(entry.size for entry in entries)) > max_bytes:
            raise BadInput(f"The files of {ref} have {total} bytes; at most {max_bytes} are read for a validation.")
        reading = ManifestReading(ref, entries)
        for path in [entry.path for entry in entries]:

            def read_file(path: str = path) -> None:
                reading.file(path, saved(self._chunks(repository, path, what), folder, path, max_bytes=max_bytes))

            self._read(read_file, what)
        return reading.manifest()

    def version_file(self, ref: VersionRef, path: str, limit: int) -> bytes:
        """One file of a version, in one request where the MLflow server can read it itself.

        Raises:
            NotFound: the version has no such file.
            FilesUnreadable: neither the MLflow server nor Signoff can read where it lies.
            UnreadableModel: it has more than ``limit`` bytes.
        """
        what = f"{path} of {ref}"
        query = {"name": ref.name, "version": str(ref.version), "path": path}
        try:
            return self._once(lambda: _at_most(limit, self._streamed(VERSION_FILE_PATH, query), what), what)
        except UnreadableModel:
            raise
        except (BadInput, FilesUnreadable, RegistryUnavailable):
            # A server that has no access to the files, which we may have.
            repository = self._repository(self._folder(ref), what)
            return self._read(lambda: _at_most(limit, self._chunks(repository, path, what), what), what)

    def run_files(self, run_id: str) -> tuple[ArtifactEntry, ...]:
        """The files a run logged beside its model: pictures, reports; what lies two folders deep is left out."""
        what, repository = self._of_run(run_id)
        nested = (
            self._listed(repository, top.path, what) if top.is_dir else [top]
            for top in self._listed(repository, None, what)
        )
        return tuple(
            ArtifactEntry(path=entry.path, size=entry.file_size or 0)
            for found in nested
            for entry in found
            if not entry.is_dir
        )

    def run_file(self, run_id: str, path: str) -> bytes:
        """One file of a run, whole; ask `run_files` for its size first."""
        what, repository = self._of_run(run_id)
        return self._read(lambda: b"".join(self._chunks(repository, path, what)), what)

    def _of_run(self, run_id: str) -> tuple[str, Any]:
        what = f"the artifacts of run {run_id}"
        run = self._read(lambda: self._client.get_run(run_id), what)
        return what, self._repository(run.info.artifact_uri, what)

    def _walk(self, repository: Any, what: str) -> Iterator[ArtifactEntry]:
        folders: list[str | None] = [None]
        while folders:
            folder = folders.pop()
            for entry in self._listed(repository, folder, what):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    yield ArtifactEntry(path=entry.path, size=entry.file_size or 0)


def _at_most(limit: int, chunks: Iterable[bytes], what: str) -> bytes:
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > limit:
            raise UnreadableModel(f"There is more in {what} than the {limit:,} bytes that are read.")
    return bytes(found)
