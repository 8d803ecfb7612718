"""One record in full, in a drawer beside the list; `/history?event=12` is its link."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from components import links, markup, record_state
from components.badges import WAIVED, inline, passed, stage_words
from components.history import EVENT
from components.history_comparison import compared
from components.history_list import colour
from components.problems import problems_shown
from components.session import Session
from components.text import NONE, escaped, exact, number, prose
from services.errors import BadInput, SignoffError
from services.place import Place
from services.record.ledger import GENESIS, Event
from services.recorded_facts import counted
from services.side_by_side.recorded_comparison import Kept
from services.views import history
from services.views.history import Record

WIDTH = 760


def open_record(seq: int) -> None:
    """Make one record the one that is open."""
    st.query_params[EVENT] = str(seq)


def record_drawer(session: Session) -> None:
    """Draw the record that the link names, if it names one."""
    asked = st.query_params.get(EVENT)
    if asked is not None:
        shown = asked if asked.isascii() and asked.isdigit() else "?"
        st.dialog(f"Record #{shown[:12]}", width=WIDTH, position="right", on_dismiss=_close)(_draw)(session, asked)


def _close() -> None:
    st.query_params.pop(EVENT, None)


def _draw(session: Session, asked: str) -> None:
    with problems_shown():
        if not (asked.isascii() and asked.isdigit() and len(asked) <= 12):
            raise BadInput("Records are numbered from 1; the link names no number.")
        found = history.record(session.signoff, int(asked))
        event = found.event
        record_state.of_event(session)
        _headline(event)
        if event.comment:
            with st.container(border=True):
                st.text(prose(event.comment))
        _signature(event)
        _change(event)
        _checks(found)
        _measured(event)
        _approvals(event)
        _evidence(session, event)
        _chain(found)
        _raw(found)


def _headline(event: Event) -> None:
    badge = inline(history.action(event.kind), colour(event.kind))
    about = (
        f" **[{escaped(event.ref.name, 120)} v{event.ref.version}]({links.version(event.ref)})**" if event.ref else ""
    )
    st.markdown(f"{badge}{about}")
    roles = ", ".join(role.replace("_", " ") for role in event.body["roles"]) or "no role"
    if event.get("automation"):
        roles = f"automation, {roles}"
    name, username = event.body["actor_name"], event.actor
    who = markup.text(name, 80) + (f" ({markup.text(username, 80)})" if name != username else "")
    markup.caption(
        f"by <strong>{who}</strong>",
        f"as {markup.text(roles)}",
        f"through {markup.text(event.body['source'].replace('_', ' '))}",
        markup.when(event.at),
        markup.text(exact(event.at)),
    )


def _signature(event: Event) -> None:
    signature = event.get("signature")
    if signature:
        _section("Electronic signature")
        name, username = escaped(signature["printed_name"], 80), escaped(signature["username"], 80)
        _facts(
            {
                "Signed by": f"{name} ({username})",
                "Meaning": f"“{escaped(signature['meaning'])}”",
                "Time": exact(signature["at"]),
            }
        )


def _change(event: Event) -> None:
    before, after = event.get("before"), event.get("after")
    if not before or not after:
        return
    rows = [
        *(
            (f"v{version}", before["stages"].get(version), after["stages"].get(version))
            for version in _keys(before, after, "stages")
        ),
        *(
            (f"alias {escaped(alias)}", _pointed(before, alias), _pointed(after, alias))
            for alias in _keys(before, after, "aliases")
        ),
        *(
            (f"tag {escaped(key)}", before["tags"].get(key), after["tags"].get(key))
            for key in (_keys(before, after, "tags") if "tags" in before and "tags" in after else ())
        ),
    ]
    _section("What changed" if event.kind.outcome == "confirmed" else "What was to change")
    _table(
        {
            "": [row[0] for row in rows],
            "before": [_stage(row[1]) for row in rows],
            "after": [_stage(row[2]) for row in rows],
        }
    )
    if why := event.get("why"):
        st.caption(f"MLflow: {escaped(str(why), 500)}")


def _checks(found: Record) -> None:
    if not found.checks:
        return
    _section(f"Checks · {sum(bool(check['passed']) for check in found.checks)} of {len(found.checks)} passed")
    _table(
        {
            "check": [f"{_sign(check)} {escaped(str(check['title']), 200)}" for check in found.checks],
            "value": [escaped(str(check["value"]), 200) for check in found.checks],
            "needed": [escaped(str(check["threshold"]), 200) for check in found.checks],
        }
    )
    for check in found.checks:
        if not check["passed"]:
            st.caption(f"{_sign(check)} {escaped(str(check['reason']), 600)}")


def _sign(check: Mapping[str, object]) -> str:
    return WAIVED if check.get("waived") else passed(bool(check["passed"]))


def _measured(event: Event) -> None:
    """The comparison somebody decided on, where one was kept; the metrics alone where it does not hold them all."""
    kept = Kept.of(event.body["details"])
    if kept:
        compared(kept)
    if kept is None or kept.left_out:
        _metrics(event)


def _metrics(event: Event) -> None:
    metrics: Mapping[str, Any] = event.get("metrics") or {}
    if not metrics:
        return
    champion: Mapping[str, Any] = event.get("champion_metrics") or {}
    names = sorted(metrics)
    numbers = ["value"]
    columns = {"metric": [escaped(name, 80) for name in names], "value": [_number(metrics[name]) for name in names]}
    if champion:
        numbers.append(f"champion v{event.get('champion')}")
        columns[numbers[-1]] = [_number(champion.get(name)) for name in names]
    if any(metrics[name]["digest"] for name in names):
        columns["data set"] = [escaped(_data(metrics[name]), 120) for name in names]
    _section("Metrics")
    _table(columns, numbers=numbers)
    if datasets := event.get("datasets"):
        named = (f"{escaped(data['name'], 80)} `{_code(data['digest'])}`" for data in datasets)
        st.caption(f"Measured on {', '.join(named)}")


def _approvals(event: Event) -> None:
    approvals, counting = event.get("approvals") or (), [vote["seq"] for vote in counted(event)]
    if approvals:
        _section("Approvals")
        _table(
            {
                "by": [
                    f"{escaped(approval['person'], 80)}{'' if approval['seq'] in counting else ' (did not count)'}"
                    for approval in approvals
                ],
                "as": [escaped(", ".join(approval["roles"]).replace("_", " "), 120) for approval in approvals],
                "comment": [escaped(" ".join(approval["comment"].split()), 600) for approval in approvals],
                "record": [f"[#{approval['seq']}]({links.event(approval['seq'])})" for approval in approvals],
            }
        )


_EVIDENCE = {
    "assigned": "Policy from then on",
    "assigned_before": "Policy before",
    "policy": "Policy",
    "policy_digest": "Policy text (sha256)",
    "manifest_digest": "Files (sha256)",
    "model_id": "Logged model",
    "source_uri": "Source, as registered",
    "champion_manifest_digest": "Champion's files (sha256)",
    "holdout": "Holdout",
    "holdout_sha256": "Holdout (sha256)",
    "target": "Target",
    "report_digest": "Report (sha256)",
    "identity": "Identity",
    "claimed_author": "Author, as claimed",
    "registered_by": "Registered by (tag signoff.registered_by)",
    "recovered_by": "Closed by",
    "file": "Policy file",
}


def _evidence(session: Session, event: Event) -> None:
    facts = {title: f"`{_code(str(event.get(key)))}`" for key, title in _EVIDENCE.items() if event.get(key)}
    if place := event.get("place"):
        facts["Where the files lay"] = escaped(Place.from_json(place).words, 300)
    if run_id := event.get("run_id") or event.get("mlflow_run"):
        facts["Run"] = _run(session, str(run_id))
    if facts:
        _section("Evidence")
        _facts(facts)


def _run(session: Session, run_id: str) -> str:
    """The run with a link into MLflow; only its id when it is gone, or MLflow is away: the record must still open."""
    try:
        run = session.signoff.reader.run(run_id)
    except SignoffError:
        return f"`{_code(run_id)}`"
    if run is None:
        return f"`{_code(run_id)}`, no longer in MLflow"
    return (
        f"[{escaped(run.name, 80)} ↗]({links.mlflow_run(session.signoff.settings.mlflow_uri, run)}) `{_code(run_id)}`"
    )


def _chain(found: Record) -> None:
    event = found.event
    previous = event.body["previous"]
    facts = {
        "Hash": f"`{event.hash}`",
        "Previous": "the first record"
        if previous == GENESIS
        else f"[#{event.seq - 1}]({links.event(event.seq - 1)}) `{previous}`",
    }
    if found.opened_by:
        facts["Begun with"] = f"[#{found.opened_by.seq}]({links.event(found.opened_by.seq)})"
    if event.body["intent"]:
        facts["Intent"] = f"`{_code(event.body['intent'])}`"
    _section("Place in the record")
    _facts(facts)


def _raw(found: Record) -> None:
    seq, whole = found.event.seq, {**found.event.body, "hash": found.event.hash}
    with st.container(horizontal=True):
        st.download_button(
            "JSON",
            json.dumps(whole, ensure_ascii=False, indent=2, sort_keys=True),
            f"signoff-record-{seq}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key="record-json",
        )
        if st.button("Earlier", icon=":material/chevron_left:", disabled=seq <= 1, key="record-earlier"):
            open_record(seq - 1)
            st.rerun()
        if st.button("Later", icon=":material/chevron_right:", disabled=seq >= found.last, key="record-later"):
            open_record(seq + 1)
            st.rerun()
    with st.expander("As recorded"):
        st.json(whole)


def _section(title: str) -> None:
    st.markdown(f"**{title}**")


def _table(columns: dict[str, list[str]], *, numbers: Sequence[str] = ()) -> None:
    """A table of Markdown; columns named in ``numbers`` are right-aligned."""
    right = [f"{cell}.col{list(columns).index(name)}" for name in numbers for cell in ("th", "td")]
    # Streamlit aligns text to the left inline, hence the ``!important``.
    style = [{"selector": ", ".join(right), "props": "text-align: right !important;"}] if right else []
    st.table(pd.DataFrame(columns).style.set_table_styles(style), border="horizontal", hide_index=True)


def _facts(facts: Mapping[str, str]) -> None:
    st.table({"": list(facts), " ": list(facts.values())}, border="horizontal", hide_index=True, hide_header=True)


def _keys(before: Mapping[str, Any], after: Mapping[str, Any], part: str) -> list[str]:
    return sorted({*before[part], *after[part]}, key=lambda key: (len(key), key))


def _pointed(state: Mapping[str, Any], alias: str) -> str | None:
    version = state["aliases"].get(alias)
    return f"v{version}" if version else None


def _stage(value: str | None) -> str:
    return NONE if value is None else escaped(stage_words(value))


def _number(metric: Mapping[str, Any] | None) -> str:
    return escaped(number(float(metric["value"]))) if metric else NONE


def _data(metric: Mapping[str, Any]) -> str:
    return f"{metric['dataset'] or ''} {metric['digest'] or ''}".strip() or NONE


def _code(text: str) -> str:
    """Text inside backticks, where nothing but a backtick has a meaning."""
    return prose(text.replace("`", "'"), 300).replace("\n", " ")
