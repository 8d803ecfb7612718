"""What the reconciler last saw carries a seal: a row of another's writing hides nothing, and lets nothing through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from services.admission.calls import What
from services.domain import VersionRef
from services.gate import GateRefused
from services.reconciliation.drift import Seen
from services.record.deviations import open_deviations
from services.signoff import Signoff
from services.tables import known_models
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.outside import ask, call
from tests.test_releases import approve, release
from tests.verbs import reconciler, releases

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
V1, V2, V3 = (VersionRef(name="m", version=number) for number in (1, 2, 3))
STAGED = {"stage:1", "stage:3", "alias:champion"}


def as_mlflow_shows_it(registry: FakeRegistry) -> dict[str, object]:
    seen = Seen.of(registry.model("m"), registry.versions("m"))
    return {"state": seen.text, "digest": seen.digest}


WRITTEN: dict[str, Callable[[FakeRegistry], sa.UpdateBase]] = {
    "the state that MLflow shows": lambda r: known_models.update().values(**as_mlflow_shows_it(r)),
    "its digest alone": lambda r: known_models.update().values(digest=as_mlflow_shows_it(r)["digest"]),
    "a state that no digest tells of": lambda r: known_models.update().values(state=as_mlflow_shows_it(r)["state"]),
    "no state": lambda _: known_models.update().values(state=None, digest="", seq=0),
    "a later event": lambda r: known_models.update().values(**as_mlflow_shows_it(r), seq=10**6),
}


@pytest.fixture
def met(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """Version 1 in Production, 2 approved, 3 only registered; nothing is to be found."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.add_version("m", {"val_auc": 0.9})
    reconciler.reconcile(signoff)
    assert not open_deviations(signoff)
    return signoff


@pytest.mark.parametrize("written", WRITTEN)
def test_a_row_of_anothers_writing_hides_no_change_and_no_promotion_rests_on_it(
    met: Signoff, registry: FakeRegistry, written: str
) -> None:
    registry.set_stage(V1, "Archived")
    registry.set_stage(V3, "Production")
    registry.set_alias(V3, "champion")
    with met.database.writing() as connection:
        connection.execute(WRITTEN[written](registry))
    before = registry.versions("m")
    with pytest.raises(GateRefused, match="champion"):
        releases.promote(met, V2, by="release_manager", reason="Now.")
    assert registry.versions("m") == before
    reconciler.reconcile(met)
    assert {deviation.subject for deviation in open_deviations(met)} == STAGED
    reconciler.reconcile(met)
    assert {deviation.subject for deviation in open_deviations(met)} == STAGED


def test_a_tag_is_not_adopted_by_writing_that_it_was(met: Signoff, registry: FakeRegistry) -> None:
    forged = as_mlflow_shows_it(registry)
    forged["state"] = str(forged["state"]).replace('"None",{}', '"None",{"approval_status":"approved"}')
    assert "approval_status" in str(forged["state"])
    with met.database.writing() as connection:
        connection.execute(known_models.update().values(**forged))
    tag = call(registry, What.TAG_SET, version=3, key="approval_status", value="approved")
    assert not ask(met, tag).allowed
    assert kinds(met)[-1] == "admission:refused"
