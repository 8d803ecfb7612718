"""Electronic signatures, in the sense of 21 CFR 11.50 and 11.200: printed name, time and meaning of an act.

A signature is made inside the verb it is for, by checking the password there, and leaves it only as words in the
record. No door ever holds one, so none can be forged, moved to another act, kept or used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.checks.bound import bound
from services.domain import Action, VersionRef
from services.evidence import Binding, Facts
from services.policy import Policy

_MEANINGS = {
    Action.APPROVE: "I have reviewed this version and approve it for {stage}",
    Action.REQUEST_CHANGES: "I have reviewed this version and ask for changes before it may go to {stage}",
    Action.REJECT: "I have reviewed this version and reject it",
    Action.PROMOTE: "I release this version to {stage}",
    Action.ROLLBACK: "I return {stage} to this version",
    Action.ARCHIVE: "I take this version out of use and archive it",
}


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is signed: the action, the version, and its files, evidence, champion and policy of that moment."""

    action: Action
    ref: VersionRef
    binding: Binding

    @classmethod
    def of(cls, action: Action, policy: Policy, facts: Facts) -> Act:
        """The act on what was just read."""
        return cls(action=action, ref=facts.candidate.ref, binding=bound(policy, facts))

    def __str__(self) -> str:
        return f"{self.action.replace('_', ' ')} {self.ref}"


@dataclass(frozen=True, kw_only=True)
class ElectronicSignature:
    """Who signed what, when (UTC) and as what. ``printed_name`` is the account's name at that moment."""

    username: str
    printed_name: str
    meaning: str
    act: Act
    at: datetime

    def as_json(self) -> dict[str, str]:
        """For an event, which names the act itself."""
        return {
            "username": self.username,
            "printed_name": self.printed_name,
            "meaning": self.meaning,
            "at": self.at.isoformat(timespec="milliseconds"),
        }


def asked(policy: Policy, action: Action) -> bool:
    """Whether a policy asks for a signature under this action."""
    return policy.signing and action in _MEANINGS


def meaning(policy: Policy, action: Action) -> str:
    """What somebody declares who signs ``action``, in one sentence; it is never the door's to word."""
    return _MEANINGS[action].format(stage=policy.rules.champion.stage)
