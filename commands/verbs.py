"""The verbs on the terminal: ``signoff promote MODEL VERSION --reason …`` and the others, each one call over REST."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from commands import remote
from commands.local import Json, answer, table, waiting
from commands.remote import REFUSED

Model = Annotated[str, typer.Argument(help="The registered model.")]
Version = Annotated[str, typer.Argument(help="Its version, like 3.")]
Comment = Annotated[str, typer.Option("--comment", "--reason", help="The record keeps it for years.")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="A repeat under the same key is answered, not done again.")
]

Seen = Annotated[
    str | None,
    typer.Option("--seen", metavar="DIGEST", help="As `signoff check` shows it; refused when anything changed since."),
]

_DECISIONS = {
    "approve": "Approve a submitted version as it is now; never one's own.",
    "reject": "End a submission.",
    "promote": "Put an approved version into Production; on the champion it changes nothing.",
}
_VERBS = {
    "submit": "Propose a version for Production.",
    "withdraw": "Take one's own submission back.",
    "archive": "Archive a version; the champion too, which leaves nothing in Production.",
    "auto": "Take a version as far towards Production as its policy lets automation take it.",
}
_ARROWS = {"higher": "↑", "lower": "↓"}
_RELEASED_AS = {"rollback": "a rollback", "emergency": "an emergency"}
_STAGES = {"production": "promote", "staging": "submit", "archived": "archive"}


def register(app: typer.Typer) -> None:
    """Add every verb to the command line."""
    for verb, words in _VERBS.items():
        app.command(verb, help=words)(_of(verb))
    for verb, words in _DECISIONS.items():
        app.command(verb, help=words)(_deciding(verb))
    for command in (check, state_dataset, rollback, transition, history, compare, production, reconcile):
        app.command()(command)


def _of(verb: str) -> Callable[..., None]:
    def command(model: Model, version: Version, comment: Comment, key: Key = None, as_json: Json = False) -> None:
        act(verb, model, version, comment, key, as_json=as_json)

    return command


def _deciding(verb: str) -> Callable[..., None]:
    def command(
        model: Model, version: Version, *, comment: Comment, seen: Seen = None, key: Key = None, as_json: Json = False
    ) -> None:
        act(verb, model, version, comment, key, as_json=as_json, seen=seen)

    return command


def act(verb: str, model: str, version: str, comment: str, key: str | None, *, as_json: bool, **more: Any) -> None:
    """Have one verb carried out, and say what was done; ``more`` is the rest of its body."""
    with waiting(f"{model}/v{version}: {verb.replace('-', ' ').rpartition('/')[2]}"):
        done = remote.post(f"{remote.version_path(model, version)}/{verb}", {"comment": comment, **more}, key=key)
    answer(done, done["message"], as_json=as_json)


def state_dataset(
    model: Model,
    version: Version,
    *,
    name: Annotated[str, typer.Option("--name", help="The data set's name, as later runs log it.")],
    digest: Annotated[str, typer.Option("--digest", help="Its digest, as MLflow shows it beside the name.")],
    comment: Comment,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """State on which data set the champion was measured, where it names none itself."""
    with waiting(f"{model}/v{version}: stating its data set"):
        body = {"comment": comment, "dataset": {"name": name, "digest": digest}}
        done = remote.post(f"{remote.version_path(model, version)}/statements", body, key=key)
    answer(done, done["message"], as_json=as_json)


def check(
    model: Model,
    version: Version,
    fresh: Annotated[bool, typer.Option("--fresh", help="Read everything from MLflow now, files included.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether a version may go to Production, and what stands in the way; exit code 1 when it may not."""
    with waiting(f"{model}/v{version}: reading {'every file' if fresh else 'the evidence'}"):
        found = remote.get(f"{remote.version_path(model, version)}/verdict", fresh=fresh or None)
    rows = [
        ["✓" if one["passed"] else "✗", one["title"], one["value"], "" if one["passed"] else one["reason"]]
        for one in found["checks"]
    ]
    word = "may go to Production" if found["allowed"] else "may not go to Production"
    lines = table(["", "CHECK", "VALUE", "WHY NOT"], rows)
    answer(found, f"{lines}\n{model}/v{version} {word}.\nSeen: {found['seen']}", as_json=as_json)
    if not found["allowed"]:
        raise typer.Exit(REFUSED)


def rollback(
    model: Model,
    version: Annotated[str | None, typer.Argument(help="To which; without it, to the one before.")] = None,
    *,
    reason: Comment,
    seen: Seen = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Return to an earlier champion."""
    body = {"reason": reason, "version": version, "seen": seen}
    with waiting(f"{model}: rollback"):
        done = remote.post(f"/models/{quote(model, safe='')}/rollback", body, key=key)
    answer(done, done["message"], as_json=as_json)


def transition(
    name: Annotated[str, typer.Option("--name")],
    version: Annotated[str, typer.Option("--version")],
    stage: Annotated[str, typer.Option("--stage", help="Production, Staging or Archived.")],
    reason: Comment = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Promote, submit or archive, as MLflow's users spell it."""
    verb = _STAGES.get(stage.lower())
    if verb is None:
        raise typer.BadParameter(f"{stage!r} is none of Production, Staging and Archived.")
    act(verb, name, version, reason or f"Moved to {stage.capitalize()} from the command line.", key, as_json=as_json)


def history(
    model: Annotated[str | None, typer.Argument(help="Of one registered model; without it, of all.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Of one person, by username.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="promotion:confirmed …; several times.")] = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Day or time, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Day or time, UTC; not included.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """Who did what, when and why, newest first."""
    wanted = {"model": model, "actor": actor, "kind": kind, "since": _utc(since), "until": _utc(until)}
    events = remote.pages("/events", "events", limit=limit, **wanted)
    rows = [
        [
            f"#{one['seq']}",
            one["at"][:16].replace("T", " "),
            one["kind"],
            f"{one['model']}/v{one['version']}" if one["model"] else "",
            one["actor"],
            " ".join(one["comment"].split())[:60],
        ]
        for one in events
    ]
    answer(
        {"events": events}, table(["RECORD", "WHEN (UTC)", "WHAT", "VERSION", "WHO", "WORDS"], rows), as_json=as_json
    )


def compare(
    versions: Annotated[list[str], typer.Argument(help="name:version, two to ten of them, the baseline first.")],
    as_json: Json = False,
) -> None:
    """Versions side by side: what that says about each, then metric by metric."""
    found = remote.get("/compare", versions=",".join(versions))
    heads = [f"{one['name']}/v{one['version']}" for one in found["versions"]]
    rows = [
        [line["name"], _ARROWS.get(line["direction"], ""), *(_cell(cell) for cell in line["cells"])]
        for line in found["metrics"]
    ]
    sentences = "\n".join(one["sentence"] for one in found["candidates"])
    answer(found, f"{sentences}\n\n{table(['METRIC', '', *heads], rows)}", as_json=as_json)


def production(
    model: Model,
    at: Annotated[datetime | None, typer.Option("--at", help="Day or time, UTC; without it, now.")] = None,
    as_json: Json = False,
) -> None:
    """Say which version was in Production, how it came there, and who released and approved it."""
    found = remote.get(f"/models/{quote(model, safe='')}/production", at=_utc(at))
    approved = ", ".join(found["approved_by"]) or "nobody"
    how = "" if found["released_as"] == "promotion" else f" as {_RELEASED_AS[found['released_as']]}"
    past = ", ".join(check["title"] for check in found["waived"])
    sentence = (
        f"{found['name']}/v{found['version']} since {found['since']}, released by {found['promoted_by']}{how}"
        f"{f', past the checks {past}' if past else ''}, "
        f"approved by {approved}, policy {found['policy']}, record #{found['event']}."
    )
    answer(found, sentence, as_json=as_json)


def reconcile(as_json: Json = False) -> None:
    """Look through the whole registry for changes made past Signoff."""
    with waiting("Reading the whole registry"):
        found = remote.post("/reconcile", {})
    count = len(found["events"])
    sentence = f"{found['models']} models read; {count} thing{'' if count == 1 else 's'} found and recorded."
    answer(found, sentence, as_json=as_json)


def _cell(cell: dict[str, Any]) -> str:
    value = "–" if cell["value"] is None else f"{cell['value']:.6g}"
    other = ", other data" if cell["standing"] == "other data" else ""
    return value if not cell["delta"] and not other else f"{value} ({cell['delta'] or 0:+.3g}{other})"


def _utc(moment: datetime | None) -> str | None:
    return moment.replace(tzinfo=UTC).isoformat() if moment else None


def refused(error: remote.Unanswered, arguments: list[str]) -> None:
    """What went wrong: on stderr for people, and for programs that asked for JSON on stdout as well."""
    remote.tell(error)
    if "--json" in arguments and error.answer:
        typer.echo(json.dumps(error.answer, ensure_ascii=False))
