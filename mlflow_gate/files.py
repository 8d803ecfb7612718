"""Artifacts: asks before the files of a version change."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from mlflow_gate import scene
from mlflow_gate.gate import GOVERNED, Denied, Gate
from mlflow_gate.locations import Holder, Locations
from mlflow_gate.own import Own
from mlflow_gate.sources import place, within
from mlflow_gate.streams import AskedAtItsEnd, asked_at_its_end


class Files:
    """Asks Signoff where the files of a registered version are concerned, and nobody where they are not."""

    def __init__(self, gate: Gate, registry: Callable[[], Any], destination: str, tracking: Callable[[], Any]) -> None:
        self._gate = gate
        self._registry = registry
        self._destination = destination
        self.locations = Locations(destination, tracking)
        self.own = Own(gate, tracking, destination)

    @property
    def registry(self) -> Any:
        """MLflow's registry store."""
        return self._registry()

    def root(self, uri: str) -> str:
        """Where a URI leads."""
        return place(uri, self._destination)

    def require(self, where: str, *, deleted: bool, what: str, words: str = "") -> None:
        """Raise `Denied` unless what is at ``where`` may be written, or deleted with all that is below.

        Args:
            what: a path, or words.
            words: the same in words, where ``what`` is a path.
        """
        self.own.require_place(words or what, where, deleted=deleted)
        done = "deleted" if deleted else "written"
        concerned = self.locations.concerned(self.registry, where, deleted=deleted)
        self.ask(f"files_{done}", concerned.files, what)
        self.ask(f"evidence_{done}", concerned.evidence, words or what)

    def ask(self, kind: str, concerned: list[Holder], what: str) -> None:
        """Raise `Denied` unless Signoff allows it for all of these versions; where there are none, nobody is asked."""
        governed = _governed(concerned)
        if not governed:
            return
        change = {"kind": kind, "path": what[:2000]}
        with self._gate.turn(change):
            self._gate.ask(change, list(_messages(self.registry, governed)), GOVERNED).require_time()

    def require_unregistered(self, where: str) -> None:
        """Raise `Denied` where a registered version has its files, or its run: an address could be used much later."""
        self.own.require_place("An address to upload to", where, deleted=False)
        concerned = self.locations.concerned(self.registry, where, deleted=False)
        if governed := _governed([*concerned.files, *concerned.evidence]):
            raise Denied(
                f"No address to upload to is given out where {governed[0].name}/v{governed[0].version} has its files "
                "or its run. Upload through this server, or log in another run."
            )


def _governed(holders: list[Holder]) -> list[Holder]:
    return [holder for holder in holders if holder.workspace == GOVERNED]


def _messages(store: Any, holders: list[Holder]) -> list[Any]:
    """Each model with those of its versions that are concerned, and no others."""
    by_name: dict[str, set[int]] = {}
    for holder in holders:
        by_name.setdefault(holder.name, set()).add(holder.version)
    found = []
    with store.ManagedSessionMaker() as session:
        for name, numbers in by_name.items():
            read = scene.read(session, GOVERNED, name, numbers)
            if read is not None:
                kept = [version for version in read.message["versions"] if version["version"] in numbers]
                found.append({**read.message, "versions": kept})
    return found


class GuardedArtifacts:
    """Mixed in before an artifact repository of MLflow's; ``files`` and ``root`` are set when that is done."""

    files: Files
    root: str

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> Any:
        self._require(artifact_path, posixpath.basename(local_file))
        return super().log_artifact(local_file, artifact_path)  # type: ignore[misc]

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> Any:
        for folder, _, names in os.walk(local_dir):
            below = posixpath.join(artifact_path or "", os.path.relpath(folder, local_dir))
            for name in names:
                self._require(below, name)
        return super().log_artifacts(local_dir, artifact_path)  # type: ignore[misc]

    def log_artifact_from_stream(self, stream: Any, filename: str, artifact_path: str | None = None) -> Any:
        ask = partial(self._require, artifact_path, filename)
        ask()
        asked = AskedAtItsEnd(stream, ask)
        return super().log_artifact_from_stream(asked, filename, artifact_path)  # type: ignore[misc]

    async def log_artifact_from_async_stream(self, stream: Any, filename: str, artifact_path: str | None = None) -> Any:
        ask = partial(self._require, artifact_path, filename)
        await anyio.to_thread.run_sync(ask)
        asked = asked_at_its_end(stream, ask)
        return await super().log_artifact_from_async_stream(asked, filename, artifact_path)  # type: ignore[misc]

    def delete_artifacts(self, artifact_path: str | None = None) -> Any:
        self._require(artifact_path, "", deleted=True)
        return super().delete_artifacts(artifact_path)  # type: ignore[misc]

    def create_multipart_upload(self, local_file: str, num_parts: int = 1, artifact_path: str | None = None) -> Any:
        self._require(artifact_path, posixpath.basename(local_file))
        return super().create_multipart_upload(local_file, num_parts, artifact_path)  # type: ignore[misc]

    def complete_multipart_upload(
        self, local_file: str, upload_id: str, parts: Any = None, artifact_path: str | None = None
    ) -> Any:
        self._require(artifact_path, posixpath.basename(local_file))
        return super().complete_multipart_upload(local_file, upload_id, parts, artifact_path)  # type: ignore[misc]

    def create_presigned_upload_url(self, artifact_path: str, expiration: int = 900) -> Any:
        self.files.require_unregistered(within(self.root, artifact_path))
        return super().create_presigned_upload_url(artifact_path, expiration)  # type: ignore[misc]

    def _require(self, folder: str | None, name: str, *, deleted: bool = False) -> None:
        path = posixpath.join(folder or "", name) if name else folder or ""
        what = path or "everything"
        words = f"The artifact {json.dumps(what, ensure_ascii=False)}"
        self.files.require(within(self.root, path), deleted=deleted, what=what, words=words)
