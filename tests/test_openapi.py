"""Everything our own description allows is asked: no 500, and no answer that is not announced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.applications import Starlette

from api.app import api_routes
from services.accounts import people
from services.domain import Role
from services.signoff import Signoff
from tests.conftest import SOAKING, Clock, add_people, settings_in
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.rest import Rest, application
from tests.test_releases import approve, release
from tests.verbs import reviews

EVERYTHING = "everything"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=20 if SOAKING else 5,
    derandomize=True,  # the same examples in every run
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """The real routes over a registry with something in every state, and somebody who may do all of it."""
    registry, home = FakeRegistry(), tmp_path_factory.mktemp("openapi")
    signoff = Signoff.wire(settings=settings_in(home), registry=registry, now=Clock())
    add_people(signoff)
    people.add_account(signoff.database, username=EVERYTHING, name="E", hashed="!", roles=list(Role))
    for value in (0.92, 0.95):
        release(signoff, registry.add_version("m", {"val_auc": value}))
    approve(signoff, registry.add_version("m", {"val_auc": 0.97}))
    reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.5}), by="scientist", comment="x")
    registry.add_version("m", {"val_auc": float("nan")})
    yield Rest(signoff)
    signoff.database.engine.dispose()


def described(rest: Rest, mount: int) -> OpenApiSchema:
    """What one of the two applications says of itself, and where to ask it."""
    app: Starlette = application(rest.signoff)
    schema = api_routes(rest.signoff)[mount].app.openapi()  # type: ignore[attr-defined]
    found = schemathesis.openapi.from_dict(schema)
    found.app = app
    return found


@pytest.fixture(scope="module")
def v1(rest: Rest) -> OpenApiSchema:
    return described(rest, 0)


@pytest.fixture(scope="module")
def lifecycle(rest: Rest) -> OpenApiSchema:
    return described(rest, 1)


def every_operation(
    schema: OpenApiSchema, rest: Rest, judge: Callable[[schemathesis.Case], None], bounded: settings = BOUNDED
) -> list[str]:
    """Make calls of every operation, well formed and malformed ones; returns what was called."""
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @bounded
            def explore(case: schemathesis.Case) -> None:
                case.headers["Authorization"] = f"Bearer {rest.secret(EVERYTHING)}"
                judge(case)

            with suppress(Unsatisfiable):  # nothing about it can be malformed
                explore()
        asked.append(operation.label)
    return asked


def as_announced(case: schemathesis.Case) -> None:
    case.validate_response(case.call(), checks=CHECKS)


def test_anything_is_answered_as_announced(v1: OpenApiSchema, rest: Rest) -> None:
    """Names and versions are made up, so most of them are not there."""
    assert len(every_operation(v1, rest, as_announced)) == 30


def test_anything_about_what_is_there_is_answered_as_announced(v1: OpenApiSchema, rest: Rest) -> None:
    """The same of versions that exist, in every state there is."""

    def there(case: schemathesis.Case) -> None:
        case.path_parameters["name"] = "m"
        if "version" in case.path_parameters:
            case.path_parameters["version"] = str(1 + len(str(case.path_parameters["version"])) % 5)
        as_announced(case)

    every_operation(v1.include(path_regex="^/models/."), rest, there)
    through = {event.kind.value for event in record(rest.signoff) if event.body["source"] == "rest"}
    assert {"submission:confirmed", "rejection:confirmed", "archival:confirmed", "rollback:confirmed"} <= through
    assert {"submission:refused", "approval:refused", "promotion:refused"} <= through


def test_the_documents_own_call_too(lifecycle: OpenApiSchema, rest: Rest) -> None:
    assert every_operation(lifecycle, rest, as_announced) == ["POST /transition"]


def test_without_a_token_nothing_is_answered_and_methods_that_are_not_there_are_not(
    v1: OpenApiSchema, rest: Rest
) -> None:
    def guarded(case: schemathesis.Case) -> None:
        case.validate_response(case.call(), checks=[ignored_auth, unsupported_method])

    every_operation(v1, rest, guarded, settings(BOUNDED, max_examples=2))
