"""Every refusal and failure Signoff can name, under one base whose text is safe to show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.domain import VersionRef


class SignoffError(Exception):
    """Base of all named errors; ``str(error)`` is one clear sentence, safe to show to anyone."""


class BadInput(SignoffError):
    """What was asked is malformed: an empty comment, version ``"03"``, an unknown filter."""


class InvalidSettings(SignoffError):
    """A setting or a policy file is wrong; names the file and line where there is one."""


class NotFound(SignoffError):
    """No such registered model, version, run, account or record."""


class Refused(SignoffError):
    """The gate, a role or the state of things does not allow it; nothing was changed.

    ``context`` is what the record keeps of it beside these words, as plain JSON. ``about`` is the version that the
    words are about, where something else was asked about, such as a run.
    """

    context: Mapping[str, Any]
    about: VersionRef | None

    def __init__(
        self, message: str, context: Mapping[str, Any] | None = None, *, about: VersionRef | None = None
    ) -> None:
        super().__init__(message)
        self.context = context or {}
        self.about = about


class NotAllowed(Refused):
    """The actor's roles, read at the moment of acting, do not include this action."""


class SelfApproval(Refused):
    """An author or submitter tried to approve their own version."""


class FilesUnreadable(Refused):
    """A version's files cannot be read where its source says they are. Names the source, what is missing, what helps.

    It is no outage: the same is answered until somebody installs, configures or registers something.
    """


class UnreadableModel(FilesUnreadable):
    """A file of a version is there and is no ``MLmodel``, or has more in it than is read."""


class StaleDecision(Refused):
    """What the decision was made on has changed since it was on screen."""


class Unauthenticated(SignoffError):
    """A bearer token is missing, or there is none like it that is valid; one sentence for every reason."""


class TooManyAttempts(SignoffError):
    """A client has been wrong too often, and is to wait for ``seconds``."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = max(1, math.ceil(seconds))


class PromotionConflict(SignoffError):
    """Someone else holds this model's slot, or acted first."""


class RegistryUnavailable(SignoffError):
    """MLflow did not answer, or not with what was asked for."""


class NotAsPrescribed(RegistryUnavailable):
    """MLflow answers, and did not make a change as it was prescribed; the record says what it shows instead."""


class StoreUnavailable(RegistryUnavailable):
    """The store outside the MLflow server that holds a version's files did not answer: that says nothing of them."""


class OutcomeUnknown(RegistryUnavailable):
    """A change was sent to MLflow and its outcome could not be read back before the deadline."""


class LedgerUnavailable(SignoffError):
    """The database cannot be read or written; nothing was changed.

    The text names hosts, drivers and files, so it is for the log; strangers are told `TO_STRANGERS`.
    """

    TO_STRANGERS = "Signoff's database cannot be used; nothing was changed."


class OtherSchema(LedgerUnavailable):
    """The database was made by a Signoff with another schema, that this one cannot bring up to date."""


class LedgerBroken(SignoffError):
    """The record is not what was recorded; nothing is signed over it. Names the event where it was seen, ``seq``."""

    def __init__(self, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.seq = seq


class UnreadableRow(LedgerUnavailable, LedgerBroken):
    """A row of Signoff's own tables has in it what Signoff writes nowhere there, so nothing is read from it.

    The text names table and column and no value: it may be told to anybody.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.TO_STRANGERS = message
