"""Events of the ledger as lines of a thread, in the words people use."""

from __future__ import annotations

from components import links, markup
from components.text import exact
from services.record.ledger import Event, Kind

# kind → sign, tone, what it did to the version
_WORDS: dict[Kind, tuple[str, str, str]] = {
    Kind.POLICY_ACTIVATED: ("§", "plain", "put a policy into force"),
    Kind.SUBMISSION_CONFIRMED: ("→", "plain", "submitted {it} for review"),
    Kind.SUBMISSION_TAKEN_OVER: ("→", "plain", "submitted {it}, which a client had proposed"),
    Kind.APPROVAL_GIVEN: ("✓", "good", "approved {it}"),
    Kind.APPROVAL_EXPIRED: ("…", "wait", "marked an approval of {it} as expired"),
    Kind.CHANGES_REQUESTED: ("!", "wait", "requested changes on {it}"),
    Kind.FINDING_RESOLVED: ("✓", "good", "resolved a finding in {it}"),
    Kind.FINDING_REOPENED: ("!", "wait", "opened a finding in {it} again"),
    Kind.STATEMENT_RECORDED: ("!", "wait", "stated the data set that {it} was measured on"),
    Kind.REJECTION_CONFIRMED: ("×", "bad", "rejected {it}"),
    Kind.WITHDRAWAL_CONFIRMED: ("←", "plain", "withdrew {it}"),
    Kind.PROMOTION_CONFIRMED: ("↑", "good", "promoted {it}"),
    Kind.ROLLBACK_CONFIRMED: ("←", "wait", "rolled back to {it}"),
    Kind.EMERGENCY_REQUESTED: ("⚠", "bad", "asked for {it} to be promoted as an emergency"),
    Kind.EMERGENCY_WITHDRAWN: ("←", "plain", "no longer asks for {it} as an emergency"),
    Kind.EMERGENCY_CONFIRMED: ("⚠", "bad", "broke the glass: promoted {it} as an emergency"),
    Kind.EMERGENCY_REVIEWED: ("§", "wait", "reviewed the emergency promotion of {it}"),
    Kind.ARCHIVAL_CONFIRMED: ("↓", "plain", "archived {it}"),
    Kind.TRANSITION_CONFIRMED: ("→", "plain", "moved {it}"),
    Kind.VALIDATION_REQUESTED: ("•", "plain", "asked for {it} to be validated"),
    Kind.VALIDATION_COMPLETED: ("✓", "plain", "validated {it}"),
    Kind.VALIDATION_FAILED: ("×", "wait", "could not have {it} validated"),
    Kind.VALIDATION_CANCELLED: ("×", "plain", "cancelled a validation of {it}"),
    Kind.REGISTRY_BASELINE: ("•", "plain", "met the registry for the first time"),
    Kind.OUTSIDE_STAGE: ("⚠", "bad", "moved the stage of {it} outside Signoff"),
    Kind.OUTSIDE_ALIAS: ("⚠", "bad", "moved an alias of {it} outside Signoff"),
    Kind.OUTSIDE_TAG: ("⚠", "bad", "changed a tag of {it} outside Signoff"),
    Kind.OUTSIDE_FILES: ("⚠", "bad", "changed files of {it} outside Signoff"),
    Kind.OUTSIDE_EVIDENCE: ("⚠", "bad", "changed metrics or data sets of {it} outside Signoff"),
    Kind.OUTSIDE_RENAMED: ("⚠", "bad", "renamed the model of {it} outside Signoff"),
    Kind.OUTSIDE_DELETED: ("⚠", "bad", "deleted {it} outside Signoff"),
    Kind.OUTSIDE_RECREATED: ("⚠", "bad", "deleted {it} and gave its name to something else, outside Signoff"),
    Kind.OUTSIDE_ENDED: ("✓", "good", "found {it} as prescribed again"),
    Kind.RESTORATION_CONFIRMED: ("←", "good", "put {it} back to what the record prescribes"),
    Kind.ADOPTION_RECORDED: ("!", "wait", "adopted what was changed on {it} outside Signoff"),
    Kind.POLICY_ASSIGNED: ("§", "wait", "decided which policy judges the model"),
    Kind.TOKEN_CREATED: ("•", "plain", "created a token"),
    Kind.TOKEN_REVOKED: ("×", "plain", "revoked a token"),
    Kind.ACCOUNT_ADDED: ("•", "plain", "made an account"),
    Kind.ACCOUNT_CHANGED: ("•", "wait", "changed somebody's roles"),
    Kind.ACCOUNT_DISABLED: ("×", "plain", "disabled an account"),
    Kind.ACCOUNTS_BASELINE: ("•", "plain", "recorded the accounts that there are"),
    Kind.LEDGER_IMPORTED: ("•", "wait", "imported the record up to here"),
    Kind.KEY_ROTATED: ("•", "plain", "replaced the key that signs checkpoints"),
    Kind.WITNESS_OPENED: ("•", "plain", "opened a run in MLflow that witnesses the record"),
    Kind.WITNESS_REPLACED: ("⚠", "bad", "lost the run in MLflow that witnessed the record, and opened another"),
    Kind.LEDGER_RESTORED: ("!", "bad", "stated that events or their witness were lost"),
}
_ASKED = {
    "policy": "to decide which policy judges {it}",
    "submission": "to submit {it}",
    "approval": "to approve {it}",
    "changes": "to request changes on {it}",
    "finding": "to settle a finding in {it}",
    "statement": "to state the data set of {it}",
    "rejection": "to reject {it}",
    "withdrawal": "to withdraw {it}",
    "promotion": "to promote {it}",
    "rollback": "to roll back to {it}",
    "emergency": "to break the glass for {it}",
    "archival": "to archive {it}",
    "transition": "to move {it}",
    "validation": "to validate {it}",
    "admission": "to change what is protected of {it} in MLflow",
    "restoration": "to put {it} back to what the record prescribes",
    "adoption": "to adopt what was changed on {it} outside Signoff",
    "token": "for a token to be created or revoked",
    "account": "for an account to be made or changed",
    "login": "to log in",
    "access": "to see or do what is not theirs",
}
_OUTCOMES = {
    "intended": ("…", "plain", "began {asked}; a later record says what became of it"),
    "refused": ("×", "bad", "asked {asked} and was refused"),
    "aborted": ("×", "bad", "asked {asked}, which did not happen"),
    "unknown": ("…", "wait", "asked {asked}; what became of it was not known then"),
}
"""What became of something that was asked for, where no sentence of its own says so."""


def event_line(event: Event, *, version: bool, void: tuple[str, ...] = (), limit: int = 10_000) -> str:
    """One event; ``version`` names the version it is about, ``void`` says why an approval no longer counts."""
    sign, tone, what = _words(event.kind)
    if event.kind is Kind.APPROVAL_GIVEN and event.get("automation"):
        what += " automatically"
    if event.kind is Kind.POLICY_ASSIGNED:
        what = _assigned(event)
    if event.kind is Kind.SUBMISSION_CONFIRMED and event.get("proposal"):
        what = "proposed {it}"
    it = "it" if event.ref else "a version"
    if version and event.ref:
        it = markup.link(f"{event.ref.name} v{event.ref.version}", links.version(event.ref))
    record = markup.link(f"#{event.seq}", links.event(event.seq))
    headline = (
        f"<strong>{markup.text(event.actor, 60)}</strong> {what.format(it=it)} · {markup.when(event.at)} · {record}"
    )
    said = "\n".join([event.comment, *_found(event)])
    comment = said if len(said) <= limit else said[: limit - 1] + "…"
    note = f"No longer counts: {' and '.join(void)}." if void and event.kind is Kind.APPROVAL_GIVEN else ""
    return markup.line(sign, tone, headline, comment, note, signed_words(event))


def _assigned(event: Event) -> str:
    """Which policy judges the model since, and which one did before; braces in a name are no place for ``it``."""
    policy, before = event.get("assigned"), event.get("assigned_before")
    if not policy:
        return "assigned policies as tags and names choose them"
    names = [markup.text(name, 80).replace("{", "{{").replace("}", "}}") for name in (policy, before) if name]
    if len(set(names)) == 1:
        return f"decided that policy {names[0]} {'keeps judging' if before else 'judges'} the model"
    return f"decided that policy {names[0]} judges the model instead of {names[1]}"


def signed_words(event: Event) -> str:
    """Printed name, meaning and time of an event's signature; nothing where it has none."""
    signature = event.get("signature")
    if not signature:
        return ""
    return f"{signature['printed_name']}, “{signature['meaning']}”, {exact(signature['at'])}"


def _found(event: Event) -> list[str]:
    """The findings an event raises or settles, a line each."""
    if event.get("words_from"):
        return [f"(By {event.get('words_from')}, which anybody may have set in MLflow before it was submitted.)"]
    raised = [f"{one['severity'].capitalize()}: {one['text']}" for one in event.get("findings") or ()]
    settled = event.get("finding")
    return raised + ([f"({settled['severity']}: {settled['text']})"] if settled else [])


def _words(kind: Kind) -> tuple[str, str, str]:
    if kind in _WORDS:
        return _WORDS[kind]
    sign, tone, what = _OUTCOMES[kind.outcome]
    return sign, tone, what.format(asked=_ASKED[kind.subject])
