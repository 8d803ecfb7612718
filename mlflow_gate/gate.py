"""The gate as the MLflow server sees it: one question, one answer in time, or no. See README.md for the messages."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from mlflow_gate import caller
from mlflow_gate.names import Kept, Names

PROTOCOL = 1
CONNECT_SECONDS = 2.0
WAIT_SECONDS = 2.0
NAMES_SECONDS = 30.0
MAX_ANSWER = 1 << 20
MOVES = frozenset({"stage", "alias_set", "alias_deleted"})
GOVERNED = "default"
"""The workspace in which versions can be in Production; in others nothing is protected, as nothing gets there."""
OURS = "record-"
"""What the proof of a write of Signoff's own begins with; the second it was made at follows."""
OURS_SECONDS = 10 * 60.0
"""How far Signoff's clock may be from ours."""

log = logging.getLogger("mlflow_gate")


class Denied(MlflowException):  # type: ignore[misc]
    """Reaches MLflow's clients as 403, which they do not try again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=PERMISSION_DENIED)


class _Status(ValueError):
    """Signoff answered with another status than 200, so not with yes or no."""

    def __init__(self, status: int, text: bytes) -> None:
        super().__init__(f"status {status}: {text[:200]!r}")
        self.status = status

    @property
    def sentence(self) -> str:
        """What happened, for whoever called MLflow."""
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"Signoff broke while answering (status {self.status}). Nothing was changed, and its log says why."
        return f"Signoff gave no answer but status {self.status}, so nothing was changed."


@dataclass(frozen=True, kw_only=True)
class State:
    """Part of a registered model: version → stage, alias → version (None: not set)."""

    stages: Mapping[int, str]
    aliases: Mapping[str, int | None]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Yes. ``good_until`` is on the monotonic clock; with ``prescribed`` (before, after) exactly that is to be made."""

    good_until: float
    prescribed: tuple[State, State] | None = None
    intent: str | None = None

    def require_time(self) -> None:
        """Raise `Denied` when it is too late to act upon it."""
        if time.monotonic() > self.good_until:
            raise Denied("This took too long: what Signoff allowed is no longer allowed. Nothing was changed.")


class Gate:
    """Asks Signoff; a bounded number of questions is under way at once, so that MLflow keeps answering reads."""

    def __init__(
        self, *, url: str, token: str, seconds: float = 30.0, in_flight: int = 8, kept: Kept | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._seconds = seconds
        # Moves are judged by reading MLflow, and may make Signoff write tags: what that asks must not wait for them,
        # and neither for a training that logs to a run of the record, thousands of times a minute.
        self._moves, self._beneath, self._others = _Turns(in_flight), _Turns(in_flight), _Turns(in_flight)
        self._pool = urllib3.PoolManager(maxsize=3 * in_flight, block=False)
        self._kept = kept
        self._names: Names | None = None
        self._read_at: float | None = None
        self._reading = threading.Lock()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Gate:
        """As the settings in README.md say."""
        url = environ.get("SIGNOFF_GATE_URL", "")
        return cls(
            url=url,
            token=environ.get("SIGNOFF_GATE_TOKEN", ""),
            seconds=float(environ.get("SIGNOFF_GATE_SECONDS") or 30.0),
            in_flight=int(environ.get("SIGNOFF_GATE_IN_FLIGHT") or 8),
            kept=Kept.at(environ.get("SIGNOFF_GATE_NAMES", ""), url),
        )

    @contextmanager
    def turn(self, change: Mapping[str, Any]) -> Iterator[None]:
        """Hold one of the places for questions; raises `Denied` when too many wait already."""
        if "path" in change:
            turns = self._beneath
        else:
            turns = self._moves if change["kind"] in MOVES and caller.intent() is None else self._others
        with turns.taken():
            yield

    def ask(self, change: Mapping[str, Any], models: Sequence[Mapping[str, Any]], workspace: str) -> Answer:
        """Ask whether a change may happen; raises `Denied` with the reason unless the answer is yes, and in time."""
        begun = time.monotonic()
        question = {
            "protocol": PROTOCOL,
            "user": caller.user(),
            "intent": caller.intent(),
            "patience": self._seconds,
            "workspace": workspace,
            "change": change,
            "models": models,
        }
        if change["kind"] in MOVES and (reason := caller.reason()):
            question["reason"] = reason
        try:
            document = self._send("POST", "", question)
            if time.monotonic() - begun > self._seconds:
                raise TimeoutError("the answer came too late")
            if document["allowed"] is True:
                return _answer(document, begun)
            if document["allowed"] is not False:
                raise ValueError("allowed is neither true nor false")
            reason, where = str(document["reason"]), str(document["where"])
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("no answer from %s: %s: %s", self.url or "nowhere", type(error).__name__, error)
            where = self.url or "SIGNOFF_GATE_URL, which is not set on this MLflow server"
            what = "Signoff gave no answer, so nothing was changed."
            if isinstance(error, _Status):
                what = error.sentence
            raise Denied(f"{what} It can be asked for at {where}") from error
        raise Denied(f"{reason} See {where}")

    def report(self, intent: str, outcome: str, why: str = "") -> None:
        """Tell what became of an intent; raises `Denied` when Signoff found, and recorded, that it did not happen.

        A lost report changes nothing: Signoff closes the record by what MLflow shows.
        """
        try:
            document = self._send(
                "POST", f"/{intent}/outcome", {"protocol": PROTOCOL, "outcome": outcome, "why": why[:2000]}
            )
            closed, reason = document["closed"], str(document["reason"])
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("intent %s: %s, and the report of it was lost: %s", intent, outcome, error)
            return
        if outcome == "applied" and closed != "confirmed":
            raise Denied(reason)

    def protects(self, alias: str) -> bool:
        """Whether an alias is one that a policy names, or looks like one; any is, until the names are known."""
        names = self._known()
        return names is None or names.protects(alias)

    def chooses(self, key: str) -> bool:
        """Whether policies are chosen by a tag of registered models; by any, until the names are known."""
        names = self._known()
        return names is None or names.chooses(key)

    def experiments(self) -> frozenset[str]:
        """The ids of experiments that are Signoff's own, as it told them last; waits for nobody.

        Every metric that is logged asks for them, so what is old is read again beside it.
        """
        if self._outdated() and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read_beside, daemon=True, name="signoff-names").start()
        names = self._names or (self._kept.read() if self._kept else None)
        return names.experiments if names else frozenset()

    def _read_beside(self) -> None:
        try:
            self._read_names()
        finally:
            self._reading.release()

    def ours(self) -> bool:
        """Whether a call is a write of Signoff's own: it carries what only a holder of the token can make."""
        about, _, code = (caller.intent() or "").rpartition(".")
        made = about.removeprefix(OURS)
        if not (self._token and about.startswith(OURS) and made.isdecimal() and len(made) <= 12):
            return False
        proof = hmac.new(self._token.encode(), f"signoff intent {about}".encode(), hashlib.sha256).hexdigest()
        in_time = abs(time.time() - int(made)) <= OURS_SECONDS
        return in_time and hmac.compare_digest(proof.encode(), code.encode())

    def _outdated(self) -> bool:
        return self._read_at is None or time.monotonic() - self._read_at > NAMES_SECONDS

    def _known(self) -> Names | None:
        """The names as Signoff told them last, to this process or to an earlier one; None where nothing is known."""
        if self._outdated():
            self._read_names()
        return self._names

    def _read_names(self) -> None:
        kept = self._kept.read() if self._kept else None
        try:
            self._names = Names.told(self._send("GET", "/names", None, seconds=CONNECT_SECONDS))
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the protected names cannot be read: %s", error)
            self._names = self._names or kept
        else:
            if self._kept and self._names != kept:
                self._kept.write(self._names)
        self._read_at = time.monotonic()  # also after a failure: the calls that come now must not all wait for it

    def _send(self, method: str, path: str, message: object, seconds: float | None = None) -> dict[str, Any]:
        seconds = seconds or self._seconds
        if not self.url or not self._token:
            raise ValueError("SIGNOFF_GATE_URL and SIGNOFF_GATE_TOKEN are not both set")
        answer = self._pool.request(
            method,
            f"{self.url}/api/v1/admissions{path}",
            body=None if message is None else json.dumps(message).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            text = _read(answer, time.monotonic() + seconds)
        except BaseException:
            answer.close()  # what is left of it must not be taken for the next answer
            raise
        answer.release_conn()
        if answer.status != 200:
            raise _Status(answer.status, text)
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("protocol") != PROTOCOL:
            raise ValueError("the answer is not of this protocol")
        return document


class _Turns:
    """So many at once, half as many waiting for a moment, and the rest is refused."""

    def __init__(self, places: int) -> None:
        self._free = threading.BoundedSemaphore(places)
        self._waiting = threading.BoundedSemaphore(max(places // 2, 1))

    @contextmanager
    def taken(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False) and not self._after_waiting():
            raise Denied(
                "Too many protected changes are asked for at once. Nothing was changed; try again in a moment."
            )
        try:
            yield
        finally:
            self._free.release()

    def _after_waiting(self) -> bool:
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._free.acquire(timeout=WAIT_SECONDS)
        finally:
            self._waiting.release()


def _read(answer: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The body, a piece at a time: a time-out of the socket alone would let an answer drip for ever."""
    pieces, size = [], 0
    while piece := answer.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise ValueError("the answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer came too late")
    return b"".join(pieces)


def _answer(document: Mapping[str, Any], begun: float) -> Answer:
    prescribed, intent = document.get("prescribed"), document.get("intent")
    if intent is not None and prescribed is None:
        raise ValueError("an intent without what it prescribes")
    return Answer(
        good_until=begun + float(document.get("valid_for", 0.0)),
        prescribed=(_state(prescribed["before"]), _state(prescribed["after"])) if prescribed is not None else None,
        intent=None if intent is None else str(intent),
    )


def _state(document: Mapping[str, Any]) -> State:
    return State(
        stages={int(number): str(stage) for number, stage in document["stages"].items()},
        aliases={str(alias): None if number is None else int(number) for alias, number in document["aliases"].items()},
    )
