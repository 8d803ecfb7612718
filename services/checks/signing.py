"""The check of a signature: by the person who acts, under this very act, made just now."""

from __future__ import annotations

from datetime import datetime

from services.domain import Actor
from services.signing import Act, ElectronicSignature
from services.verdict import Check

FRESH_SECONDS = 60


def signed(act: Act, actor: Actor, signature: ElectronicSignature | None, now: datetime) -> Check:
    """Judge a signature.

    Args:
        act: what is to be done.
        signature: None when nothing was signed.
        now: when what ``act`` is bound to was read; signing comes after that.
    """
    value, problem = "not signed", f"{actor.username} did not sign: the policy asks for the password again"
    if signature is not None:
        value, problem = _judged(act, actor, signature, now)
    return Check(
        id="signed",
        title="Signed by the person who acts",
        passed=not problem,
        value=value,
        threshold=f"by {actor.username}, to {act}, at most {FRESH_SECONDS} seconds old",
        reason=f"{problem}." if problem else f"Signed by {value}.",
    )


def _judged(act: Act, actor: Actor, signature: ElectronicSignature, now: datetime) -> tuple[str, str]:
    """The value to show, and what is wrong; nothing when it is right."""
    age = (now - signature.at).total_seconds()
    if signature.username != actor.username:
        return f"by {signature.username}", f"{signature.username} signed, and {actor.username} acts"
    if (signature.act.action, signature.act.ref) != (act.action, act.ref):
        return f"to {signature.act}", f"What was signed is to {signature.act}, and not to {act}"
    if changed := signature.act.binding.differences(act.binding):
        return f"before {' and '.join(changed)}", f"Since it was signed, {' and '.join(changed)}"
    if age > FRESH_SECONDS:
        return f"{age:.0f} seconds old", f"It was signed {age:.0f} seconds before"
    return signature.printed_name, ""
