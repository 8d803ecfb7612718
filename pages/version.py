"""Version: is this one right? The pull request of a promotion."""

import streamlit as st

from components import (
    comparison,
    conversation,
    decision,
    dossier,
    emergencies,
    findings,
    policies,
    record,
    statements,
    validating,
)
from components.acting import act_and_move_on, outcome_shown
from components.problems import problems_shown
from components.session import Session, current
from components.waiting import reading_shown
from services.domain import VersionRef
from services.views.dossier import Dossier, open_dossier


def render(session: Session) -> None:
    with problems_shown():
        ref = VersionRef.parse(st.query_params.get("name"), st.query_params.get("version"))
        confirmed = decision.confirmed(ref)
        with reading_shown("Reading the evidence…"):
            found = open_dossier(session.signoff, ref)
        uri = session.signoff.settings.mlflow_uri
        dossier.header(found, uri)
        dossier.summary(found)
        outcome_shown()
        emergencies.panel(session, found.emergencies, found)
        if request := policies.panel(found, session.user):
            act_and_move_on(session, request)
        if request := decision.decision_box(found, session.user) or confirmed:
            act_and_move_on(session, request)
        for panel in (findings.panel, statements.panel):
            if request := panel(found, session.user):
                act_and_move_on(session, request)
        dossier.lifecycle(found, uri)
        tabs(session, found)


def tabs(session: Session, found: Dossier) -> None:
    checks = f"Checks {found.passed}/{len(found.verdict.checks)}"
    names = ["Conversation", checks, "Comparison", "Validation", "Evidence", "Record"]
    talk, verdict, compared, validated, evidence, events = st.tabs(names)
    with talk:
        conversation.conversation(found)
    with verdict:
        record.checks_table(found.verdict)
    with compared:
        comparison.side_by_side(found.comparison)
    with validated:
        validating.panel(session, found)
    with evidence:
        dossier.evidence(found)
        dossier.pictures(session.signoff.reader, found.facts.candidate.run)
    with events:
        record.record(found)


render(current())
