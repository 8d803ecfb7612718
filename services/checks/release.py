"""Checks of the release itself: when, by whom, and what a rollback returns to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from services.domain import Actor
from services.evidence import Facts, ahead
from services.policy import Policy
from services.verdict import Check

HOUR = 3600
"""Seconds of an hour."""


def settled(facts: Facts) -> Iterator[Check]:
    """Whether the champion is the one that the record prescribes; nothing where it is."""
    found = facts.reigning
    if found is None or found.settled:
        return
    by_stage = found.shown == found.recorded
    pair = (found.shown_staged, found.recorded_staged) if by_stage else (found.shown, found.recorded)
    shown, recorded = (f"v{one[0]}" if one else "no version" for one in pair)
    place = f"the version in {found.stage}" if by_stage else "the champion"
    also = " of another registration" if shown == recorded else ""
    yield Check(
        id="settled",
        title="The champion is the one on record",
        passed=False,
        value=f"{shown}{also}",
        threshold=recorded,
        reason=f"In MLflow {shown}{also} is {place} of {facts.candidate.ref.name}, and by the record it is {recorded}: "
        "that was changed past Signoff. Restore it or adopt the change first, so that it is clear what to compare "
        "with.",
    )


def timing(policy: Policy, facts: Facts) -> Iterator[Check]:
    """Whether now is a time to promote: no freeze, and long enough in Staging."""
    for freeze in policy.rules.freezes:
        holds = freeze.holds(facts.now)
        yield Check(
            id=f"freeze:{freeze.title}",
            title=f"Not during: {freeze.title}",
            passed=not holds,
            value=facts.now.astimezone(ZoneInfo(freeze.time_zone)).strftime("%A %Y-%m-%d %H:%M"),
            threshold=f"outside {freeze.title} ({freeze.time_zone})",
            reason=f"Nothing is promoted during {freeze.title}." if holds else f"{freeze.title} does not hold now.",
        )
    if policy.rules.min_hours_in_staging is not None:
        yield _staged(policy.rules.min_hours_in_staging, facts)


def _staged(limit: float, facts: Facts) -> Check:
    since = datetime.fromisoformat(facts.submission.submitted_at) if facts.submission else None
    seconds = max((facts.now - since).total_seconds(), 0.0) if since else None
    passed = seconds is not None and seconds >= limit * HOUR
    # Rounded down, so that what is shown is under the limit exactly when the time is.
    value = f"{math.floor(seconds / (HOUR / 10)) / 10} hours" if seconds is not None else "not submitted"
    reason = f"It has been in review for {value}" if seconds is not None else "It was not submitted"
    if since and ahead(since, facts.now):
        reason = f"Its submission is dated {since:%Y-%m-%d %H:%M}, which lies in the future"
    wanted = f"{limit:g} hour{'' if limit == 1 else 's'}"
    return Check(
        id="staging_time",
        title=f"At least {wanted} in review",
        passed=passed,
        value=value,
        threshold=f"≥ {wanted}",
        reason=f"{reason}." if passed else f"{reason}; at least {wanted} must have passed.",
    )


def released_before(facts: Facts) -> Check:
    now = facts.candidate.manifest.digest if facts.candidate.manifest else ""
    same = bool(now) and now == facts.rollback_of
    return Check(
        id="released_before",
        title="Released before, with these very files",
        passed=same,
        value=now[:12] or "unreadable",
        threshold=(facts.rollback_of or "")[:12] or "an earlier release",
        reason="Its files are those of its earlier promotion." if same else _unreleased(facts),
    )


def _unreleased(facts: Facts) -> str:
    if facts.rollback_of:
        return "Its files are not those of its earlier promotion."
    return "It has no earlier release to return to; an emergency is one once it was reviewed and found justified."


def promoter(policy: Policy, actor: Actor) -> Check:
    wanted = " or ".join(role.words for role in policy.rules.promoted_by)
    held = ", ".join(sorted(role.words for role in actor.roles))
    passed = bool(actor.roles & set(policy.rules.promoted_by))
    problem = f"{actor.username} is no {wanted}, and only a {wanted} may promote"
    return Check(
        id="promoter",
        title=f"Promoted by a {wanted}",
        passed=passed,
        value=f"{actor.username}: {held or 'no role'}",
        threshold=wanted,
        reason=f"{actor.username} may promote." if passed else f"{problem}.",
    )
