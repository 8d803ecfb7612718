"""How one registered model got where it is: its versions, their metrics, stages over time, and who approved what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from services import assignments
from services.domain import LoggedModelFacts, ModelVersion, RegisteredModel, RunFacts, VersionRef
from services.errors import NotFound
from services.evidence import Evidence
from services.policy import Policy
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.record.periods import STAGE_EVENTS, Period, periods
from services.side_by_side.comparison import number, same_data
from services.signoff import Signoff

MAX_VERSIONS = 50
"""So many of the newest versions are read; a page that is asked about a model with thousands must not read them all."""
RELEASES = (Kind.PROMOTION_CONFIRMED, Kind.ROLLBACK_CONFIRMED, Kind.EMERGENCY_CONFIRMED)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """One model as at most a minute ago. ``versions`` are the newest `MAX_VERSIONS` and the champion, oldest first."""

    model: RegisteredModel
    policy: Policy
    versions: tuple[ModelVersion, ...]
    total: int
    champion: ModelVersion | None
    runs: Mapping[str, RunFacts]
    logged_models: Mapping[str, LoggedModelFacts]
    now: datetime
    events: tuple[Event, ...]
    """Of kinds `STAGE_EVENTS` and approvals, newest first."""

    @cached_property
    def periods(self) -> tuple[Period, ...]:
        """Every version's stages over time."""
        return periods(self.versions, (event for event in self.events if event.kind in STAGE_EVENTS))

    @cached_property
    def release(self) -> Event | None:
        """The record of the champion's promotion; None where it came to Production past us."""
        if self.champion is None:
            return None
        identity = self.champion.identity
        return next((e for e in self.events if e.kind in RELEASES and e.get("identity") == identity), None)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, what the policy asks for first."""
        asked = [rule.name for rule in self.policy.rules.metrics]
        found = {name for evidence in self.evidence.values() for name in evidence.metrics}
        return (*(name for name in asked if name in found), *sorted(found - set(asked)))

    @cached_property
    def evidence(self) -> Mapping[VersionRef, Evidence]:
        """What run and logged model say about each version, without its files."""
        return {
            version.ref: Evidence(
                version=version,
                run=self.run(version),
                logged_model=self.logged_models.get(version.model_id or ""),
                preferred=self.policy.rules.metric_source,
            )
            for version in self.versions
        }

    def run(self, version: ModelVersion) -> RunFacts | None:
        """The run that made a version; None where MLflow no longer has it."""
        return self.runs.get(version.run_id or "")

    def value(self, version: ModelVersion, metric: str) -> float | None:
        """One metric of one version; None where there is no usable number."""
        return number(self.evidence[version.ref], metric)

    def elsewhere(self, metric: str) -> tuple[str, tuple[VersionRef, ...]]:
        """Against whom, as ``v3``, and which versions had the metric measured on other data than that version.

        The champion is what the others are held against; where it has no such number, the newest version that has one.
        """
        measured = [v for v in self.versions if self.value(v, metric) is not None]
        against = self.champion if self.champion in measured else next(reversed(measured), None)
        if against is None:
            return "", ()
        base = self.evidence[against.ref]
        others = (v.ref for v in measured if same_data(metric, self.evidence[v.ref], base) is False)
        return f"v{against.ref.version}", tuple(others)

    def approvers(self, version: ModelVersion) -> tuple[str, ...]:
        """Who approved a version since it was last submitted, as recorded; whether it still counts the gate says."""
        own = [e for e in self.events if e.ref == version.ref and e.at >= version.created_at]
        submitted = max((e.seq for e in own if e.kind is Kind.SUBMISSION_CONFIRMED), default=0)
        given = [e for e in reversed(own) if e.kind is Kind.APPROVAL_GIVEN and e.seq > submitted]
        return tuple(dict.fromkeys(event.actor for event in given))


def shown(signoff: Signoff, name: str) -> Lineage:
    """Read one model for a page: from the snapshot, our own record, and one call each for all runs and logged models.

    Raises:
        NotFound: no such registered model.
        InvalidSettings: no policy, or more than one, judges it.
        RegistryUnavailable: the runs are not remembered, and MLflow does not answer.
    """
    snapshot = signoff.snapshot.current
    model = snapshot.models.get(name)
    if model is None:
        raise NotFound(f"There is no registered model {name[:200]}.")
    policy = assignments.judging(signoff, model)
    target = policy.rules.champion
    champion = snapshot.champion(name, target.alias, target.stage)
    every = snapshot.versions.get(name, ())
    versions = newest(every, champion)
    with signoff.database.reading() as connection:
        wanted = Filter(model=name, kinds=(*STAGE_EVENTS, Kind.APPROVAL_GIVEN))
        events = ledger.events(connection, wanted, limit=None)
    return Lineage(
        model=model,
        policy=policy,
        versions=versions,
        total=len(every),
        champion=champion,
        runs=signoff.reader.runs(version.run_id for version in versions if version.run_id),
        logged_models=signoff.reader.logged_models(version.model_id for version in versions if version.model_id),
        now=signoff.now(),
        events=tuple(events),
    )


def newest(versions: Sequence[ModelVersion], champion: ModelVersion | None) -> tuple[ModelVersion, ...]:
    newest = tuple(versions[-MAX_VERSIONS:])
    if champion is None or champion in newest:
        return newest
    return (champion, *newest[1:])
