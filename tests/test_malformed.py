"""A request that makes no sense is answered with the field, what was given and what is allowed, in plain words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.rest import TRANSITION, V1, Rest, refused

ONE = "/models/m/versions/1"
BODIES: list[tuple[str, Any, str]] = [
    ("/submit", {}, "comment or reason is missing."),
    ("/submit", {"comment": 5}, "comment: 5 is given; allowed is text."),
    ("/submit", {"reason": None}, "reason: null is given; allowed is text."),
    ("/submit", {"comment": ""}, 'comment: "" is given; allowed is one that is not empty.'),
    ("/submit", {"comment": "a", "reason": "b"}, "Give reason or comment, not both."),
    (
        "/submit",
        {"coment": "a"},
        "comment or reason is missing; coment is no field of this call, which takes comment, reason.",
    ),
    ("/submit", {"comment": "a", "x": 1}, "x is no field of this call, which takes comment, reason."),
    (
        "/submit",
        {"comment": "a" * 10_001},
        "comment: text of 10,001 characters is given; allowed is at most 10000 characters.",
    ),
    ("/submit", [], "The body: [] is given; allowed is an object with named fields."),
    ("/submit", "x", 'The body: "x" is given; allowed is an object with named fields.'),
    (
        "/approve",
        {"comment": "a", "seen": "latest"},
        'seen: "latest" is given; allowed is a digest of 64 characters, as the verdict has it under seen.',
    ),
    (
        "/approve",
        {"comment": 5, "seen": True},
        "seen: true is given; allowed is text; comment: 5 is given; allowed is text.",
    ),
    (
        "/request-changes",
        {"comment": "a", "findings": [{"text": "b", "severity": "bad", "due": "soon"}]},
        "findings.0.severity: \"bad\" is given; allowed is 'blocking', 'major' or 'minor'; "
        'findings.0.due: "soon" is given; allowed is a day such as 2026-12-01.',
    ),
    ("/request-changes", {"comment": "a", "findings": [{}]}, "findings.0.text is missing."),
    ("/statements", {"comment": "a"}, "dataset is missing."),
    ("/statements", {"comment": "a", "dataset": {"name": "a\0", "digest": "b"}}, "text without a NUL character."),
    ("/models/m/rollback", {"reason": "a", "version": -3}, "version: -3 is given; allowed is 1 or more."),
    (
        "/models/m/rollback",
        {"reason": "a", "version": "03"},
        'version: "03" is given; allowed is a version number such as 3.',
    ),
    ("/models/m/rollback", {"reason": "a", "version": []}, "version: [] is given; allowed is a whole number or text."),
    (
        "/validations",
        {"target": "y", "confidence": 2, "location": "/x"},
        "confidence: 2 is given; allowed is less than 1.0.",
    ),
    ("/validations", {"target": "y"}, "name either a location or a dataset, or send a file as multipart/form-data."),
    (
        TRANSITION,
        {"name": "m", "version": 1, "stage": "None"},
        "stage: \"None\" is given; allowed is 'Production', 'Staging' or 'Archived'.",
    ),
]


@pytest.fixture
def rest(signoff: Signoff, registry: FakeRegistry) -> Rest:
    registry.add_version("m", {"val_auc": 0.95})
    return Rest(signoff)


def answered(rest: Rest, path: str, content: bytes) -> str:
    whole = path if path.startswith("/api/") else f"{V1}{path if path.startswith('/models') else ONE + path}"
    headers = {"Authorization": f"Bearer {rest.secret('release_manager')}"}
    return refused(rest.client.post(whole, content=content, headers=headers), 400, "INVALID_PARAMETER_VALUE")


def test_every_body_is_answered_with_what_is_wrong_in_it(rest: Rest, signoff: Signoff) -> None:
    answers = {(path, json.dumps(body)): answered(rest, path, json.dumps(body).encode()) for path, body, _ in BODIES}
    for path, body, words in BODIES:
        message = answers[path, json.dumps(body)]
        assert message == words or (words.startswith("text without") and message.endswith(words)), (path, body)
    assert set(kinds(signoff)) == {"token:created"}


def test_a_body_that_is_none_or_no_json_says_so(rest: Rest) -> None:
    assert answered(rest, "/submit", b"") == "A body of JSON is missing."
    assert answered(rest, "/submit", b"{comment: x}") == "The body is no JSON."
    assert answered(rest, "/validations", b"{comment: x}") == "The body is no JSON."


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/models/m/versions/03", 'version: "03" is given; allowed is a version number such as 3.'),
        ("/models?limit=0", 'limit: "0" is given; allowed is 1 or more.'),
        ("/models?limit=many", 'limit: "many" is given; allowed is a whole number.'),
        (f"{ONE}/verdict?fresh=maybe", 'fresh: "maybe" is given; allowed is true or false.'),
        ("/compare", "versions is missing."),
        ("/events?since=soon", "'soon' is no ISO 8601 time; write it like 2026-11-24T09:30:00Z."),
    ],
)
def test_so_is_a_query_or_a_path(rest: Rest, path: str, words: str) -> None:
    assert refused(rest.get(path), 400, "INVALID_PARAMETER_VALUE") == words
