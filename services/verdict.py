"""What the gate answers: checks, each with value, threshold and reason, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from services.errors import Refused


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question the gate asked. ``value`` and ``threshold`` are as shown to people; ``reason`` is a sentence.

    ``waived``: it did not pass, and an emergency goes past it; value and reason say what was overridden. ``policy`` is
    who asks, where two policies judge; the id then begins with it.
    """

    id: str
    title: str
    passed: bool
    value: str
    threshold: str
    reason: str
    waived: bool = False
    policy: str = ""

    @property
    def bare(self) -> str:
        """Its id under a policy that judges alone: ``metric:val_auc`` of ``strict/metric:val_auc``."""
        return self.id.removeprefix(f"{self.policy}/") if self.policy else self.id

    @property
    def family(self) -> str:
        """The first part of that: ``metric``."""
        return self.bare.split(":")[0]

    def asked_by(self, policy: str) -> Check:
        """The same, asked by one of two policies."""
        return replace(self, id=f"{policy}/{self.id}", title=f"{self.title} ({policy})", policy=policy)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks. Allowed only when there is at least one and none failed."""

    checks: tuple[Check, ...]

    @property
    def allowed(self) -> bool:
        """Whether the promotion may happen."""
        return bool(self.checks) and not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that stand in the way."""
        return tuple(check for check in self.checks if not (check.passed or check.waived))

    @property
    def waived(self) -> tuple[Check, ...]:
        """The checks that would have stood in the way but for an emergency."""
        return tuple(check for check in self.checks if check.waived)

    def as_json(self) -> list[dict[str, Any]]:
        """The checks as plain JSON, for an event; ``waived`` and ``policy`` are named only where they say something."""
        return [
            {key: value for key, value in vars(check).items() if value or key not in {"waived", "policy"}}
            for check in self.checks
        ]

    @classmethod
    def from_json(cls, checks: Sequence[Mapping[str, Any]]) -> Self:
        """The inverse of `as_json`."""
        return cls(checks=tuple(Check(**check) for check in checks))

    @property
    def waits_for_approval_only(self) -> bool:
        """Whether nothing but the missing approval stands in the way."""
        return bool(self.failed) and all(check.family in {"submitted", "approvals"} for check in self.failed)

    def summary(self) -> str:
        """Every failed check in one line; what two policies say alike is said once."""
        return " ".join(dict.fromkeys(check.reason for check in self.failed)) or "All checks passed."


class GateRefused(Refused):
    """At least one check failed. ``verdict`` carries every check, ``context`` what was judged, for the record."""

    def __init__(self, message: str, verdict: Verdict, context: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, context)
        self.verdict = verdict
