"""The one module that imports MLflow: its client, with retries and time-outs set by us and errors translated.

Reads are tried three times. Writes are sent once and never again: whether a lost answer meant a change is found
out by reading back, because a late second write could undo somebody's newer one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import mlflow.entities
import requests
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider
from mlflow.tracking.request_header.registry import _request_header_provider_registry
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import augmented_raise_for_status, http_request, verify_rest_response
from mlflow.utils.uri import append_to_uri_path

from services import certificates, logs
from services.errors import BadInput, FilesUnreadable, NotFound, RegistryUnavailable, SignoffError
from services.mlflow import stores
from services.registry import Hook

TIMEOUT_SECONDS = 10
FILE_SECONDS = 30
"""How long a file may take to begin: MLflow copies it from a bucket first, before it sends anything."""
READ_ATTEMPTS = 3
CHUNK = 1 << 18
entities = mlflow.entities
below = append_to_uri_path
"""A path below a URI, as MLflow joins them."""
ALL_RUNS = ViewType.ALL
"""Also deleted ones."""
INTENT_HEADER = "X-Signoff-Intent"
"""Tells the hook in the MLflow server which of our intents a write belongs to."""
GATE_PATH = "/api/2.0/signoff/gate"
"""Where a server with the hook says so."""

_INTENT: ContextVar[str | None] = ContextVar("intent", default=None)

T = TypeVar("T")
log = logs.seldom(__name__)


class _IntentHeader(RequestHeaderProvider):  # type: ignore[misc]
    """Adds `INTENT_HEADER` to the requests of MLflow's client, while there is an intent."""

    def in_context(self) -> bool:
        return _INTENT.get() is not None

    def request_headers(self) -> dict[str, str]:
        return {INTENT_HEADER: _INTENT.get() or ""}


_request_header_provider_registry.register(_IntentHeader)


class MlflowConnection:
    """A connection to one MLflow server; `services.mlflow.registry.MlflowRegistry` says what is asked through it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.calls = 0
        self._patience = stores.Patience()
        # MLflow's own defaults are 7 retries and 120 s: a dead server would hang every page for minutes.
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(TIMEOUT_SECONDS)
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    @property
    def _models(self) -> Any:
        """The part of MLflow's client for registered models, without its look at whether one of them is a prompt.

        For that look it reads the model with all its tags before every call; with 31 MB of them this was half of what
        a promotion took. `services.facts.fresh` looks once.
        """
        return self._client._get_registry_client()

    def _read(self, call: Callable[[], T], what: str) -> T:
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return self._once(call, what)
            except RegistryUnavailable:
                if attempt == READ_ATTEMPTS:
                    raise
                time.sleep(0.1 * attempt)
        raise AssertionError("unreachable")

    def _once(self, call: Callable[[], T], what: str) -> T:
        self.calls += 1
        try:
            return call()
        except MlflowException as error:
            raise _translated(error, what, self.uri) from error
        except requests.HTTPError as error:  # of the routes for files; all others answer with MLflow's own errors
            raise _of_files(error, what) from error
        except (requests.RequestException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Not only transport errors: half an answer surfaces as any of these inside MLflow's client.
            log.warning("MLflow: %s: %s", what, error)
            raise _unanswered(what, self.uri) from error

    def _write(self, call: Callable[[], object], what: str) -> None:
        def sent() -> None:
            try:
                call()
            except MlflowException as error:
                if error.error_code == "PERMISSION_DENIED":  # an answer, and it says that nothing was done
                    raise BadInput(f"MLflow does not accept {what}: {error.message.splitlines()[0][:500]}") from error
                raise

        self._once(sent, what)

    @contextmanager
    def under(self, intent: str) -> Iterator[None]:
        """What is written inside carries the intent's id."""
        token = _INTENT.set(intent)
        try:
            yield
        finally:
            _INTENT.reset(token)

    def hook(self) -> Hook | None:
        """What the hook in the MLflow server says of itself; None where there is none, or no answer."""
        try:
            answer = http_request(self._creds, GATE_PATH, "GET", timeout=TIMEOUT_SECONDS)
            told = answer.json() if answer.status_code == 200 else {}
            return Hook(asks=str(told["gate"]), ours=told.get("ours") is True)
        except (MlflowException, requests.RequestException, ValueError, TypeError, KeyError, AttributeError):
            return None

    def gated(self) -> bool:
        """Whether a hook in the MLflow server asks us before protected changes; False also when it does not answer."""
        return self.hook() is not None

    def _pages(self, fetch: Callable[[str | None], Any], what: str) -> Iterator[Any]:
        seen: set[str] = set()
        token: str | None = None
        while True:
            page = self._read(lambda token=token: fetch(token), what)  # type: ignore[misc]
            yield page
            token = page.token
            if not token:
                return
            if token in seen:
                raise RegistryUnavailable(f"MLflow repeats itself while listing {what}; the list is not complete.")
            seen.add(token)

    def _repository(self, uri: str, what: str) -> Any:
        """MLflow's artifact repository for the files at ``uri``.

        Raises:
            FilesUnreadable: there is no such folder, store, library or credential here.
            RegistryUnavailable: the store does not answer.
        """
        stores.require_readable(uri, what)
        return self._outside(
            lambda: get_artifact_repository(uri, tracking_uri=self.uri, registry_uri=self.uri), uri, what
        )

    def _listed(self, repository: Any, folder: str | None, what: str) -> list[Any]:
        """What lies in one folder of a repository; errors as in `_repository`."""
        if self._own(repository):
            return list(self._read(lambda: repository.list_artifacts(folder), what))
        return list(self._outside(lambda: repository.list_artifacts(folder), repository.artifact_uri, what))

    def _own(self, repository: Any) -> bool:
        """Whether its files come from the MLflow server itself."""
        return isinstance(repository, HttpArtifactRepository) and self._here(repository.artifact_uri)

    def _here(self, uri: str) -> bool:
        """Whether a URL names the MLflow server."""
        one, two = urlsplit(uri), urlsplit(self.uri)
        return (one.hostname, one.port) == (two.hostname, two.port)

    def _outside(self, call: Callable[[], T], uri: str, what: str, folder: Path | None = None) -> T:
        """What a store that is not the MLflow server answers, in bounded time, its errors as ours."""
        self.calls += 1
        try:
            return self._patience.bounded(call, uri, what, folder)
        except RegistryUnavailable:
            raise
        except Exception as error:  # each store brings a library with errors of its own, which cannot be imported here
            log.warning("%s at %s: %r", what, stores.named(uri), error)
            raise stores.translated(error, uri, what, known=self._known(uri)) from error

    def _proxied(self, uri: str) -> bool:
        """Whether who writes there goes through this MLflow server, whose hook then sees it."""
        scheme = stores.scheme_of(uri)
        return scheme == "mlflow-artifacts" and (not urlsplit(uri).netloc or self._here(uri))

    @staticmethod
    def _known(uri: str) -> bool:
        """Whether MLflow has a store for this scheme."""
        return stores.scheme_of(uri) in {"drive", *get_registered_artifact_repositories()}

    def _got(self, path: str, query: Mapping[str, Any]) -> Any:
        """The answer, as JSON, of a route that MLflow's client has no method for."""
        answer = http_request(self._creds, path, "GET", params=query, timeout=TIMEOUT_SECONDS)
        return verify_rest_response(answer, path).json()

    def _streamed(self, path: str, query: Mapping[str, Any]) -> Iterator[bytes]:
        """The file such a route answers with, as it arrives."""
        patience = (TIMEOUT_SECONDS, FILE_SECONDS)
        with http_request(self._creds, path, "GET", params=query, stream=True, timeout=patience) as answer:
            if answer.status_code != 200:
                verify_rest_response(answer, path)
            yield from answer.iter_content(CHUNK)

    @property
    def _creds(self) -> Any:
        return get_default_host_creds(self.uri)

    def _chunks(self, repository: Any, path: str, what: str) -> Iterator[bytes]:
        """A file's bytes as they arrive, a quarter of a megabyte at a time.

        MLflow's own way to download writes a file, which only stores that the server does not stand in front of need.
        """
        if self._own(repository):
            answer = http_request(
                repository._host_creds, f"/{quote(path)}", "GET", stream=True, timeout=(TIMEOUT_SECONDS, FILE_SECONDS)
            )
            with answer:
                augmented_raise_for_status(answer)
                yield from answer.iter_content(CHUNK)
            return
        with tempfile.TemporaryDirectory(prefix="signoff-") as folder:
            local = Path(folder, "file")
            # The one method every artifact repository must have; the public one lists the folder again each time.
            self._outside(
                lambda: repository._download_file(path, str(local)), repository.artifact_uri, what, Path(folder)
            )
            with local.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk


_PASSING = frozenset({408, 409, 425, 429})
"""Statuses below 500 that are over by the next time."""


def _of_files(error: requests.HTTPError, what: str) -> SignoffError:
    """What MLflow refuses to give is no outage: it answers the same until somebody changes something."""
    status = error.response.status_code if error.response is not None else 0
    log.warning("MLflow: %s: %s", what, error)
    if status == 404:
        return NotFound(f"MLflow does not know {what}.")
    if 400 <= status < 500 and status not in _PASSING:
        why = "Signoff's account there may not read them" if status in {401, 403} else f"it answers {status}"
        return FilesUnreadable(f"MLflow refuses to give {what}: {why}. The log of Signoff has the whole answer.")
    return RegistryUnavailable(f"MLflow did not give a usable answer for {what}.")


def _translated(error: MlflowException, what: str, uri: str) -> Exception:
    status = error.get_http_status_code()
    if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}:
        return NotFound(f"MLflow does not know {what}.")
    if error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in error.message.lower():
        return NotFound(f"MLflow does not know {what}.")
    if error.error_code in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"} and status == 400:
        return BadInput(f"MLflow does not accept {what}: {error.message.splitlines()[0][:200]}")
    log.warning("MLflow: %s: %s", what, error.message[:500])
    if status in {401, 403}:
        return RegistryUnavailable(
            f"MLflow does not let Signoff's account at {what}. Waiting does not help: put one that may into "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of Signoff."
        )
    return _unanswered(what, uri)


def _unanswered(what: str, uri: str) -> RegistryUnavailable:
    why = certificates.unusable(uri, certificates.MLFLOW)
    return RegistryUnavailable(why or f"MLflow did not give a usable answer for {what}.")
