"""What the home page says: who waits for whom, what is in Production now, what changed lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from services import assignments
from services.domain import ModelVersion, RunFacts, Status
from services.errors import InvalidSettings, RegistryUnavailable
from services.policy import MetricRule
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.side_by_side.lineage import RELEASES
from services.signoff import Signoff
from services.snapshot import Snapshot
from services.steps import intents
from services.steps.changes import Intent
from services.verbs.emergencies import Emergency, open_emergencies
from services.verbs.releases import Release, last_releases
from services.views import inbox

DAYS = 14
CHAMPIONS_SHOWN = 12
VERSIONS_IN_TREND = 8
EVENTS_SHOWN = 8
LATELY = (
    Kind.SUBMISSION_CONFIRMED,
    Kind.APPROVAL_GIVEN,
    Kind.CHANGES_REQUESTED,
    Kind.FINDING_RESOLVED,
    Kind.FINDING_REOPENED,
    Kind.STATEMENT_RECORDED,
    Kind.REJECTION_CONFIRMED,
    Kind.WITHDRAWAL_CONFIRMED,
    Kind.PROMOTION_CONFIRMED,
    Kind.PROMOTION_REFUSED,
    Kind.PROMOTION_ABORTED,
    Kind.ROLLBACK_CONFIRMED,
    Kind.EMERGENCY_REQUESTED,
    Kind.EMERGENCY_CONFIRMED,
    Kind.EMERGENCY_REFUSED,
    Kind.EMERGENCY_ABORTED,
    Kind.EMERGENCY_REVIEWED,
    Kind.ARCHIVAL_CONFIRMED,
    Kind.OUTSIDE_STAGE,
    Kind.OUTSIDE_ALIAS,
    Kind.OUTSIDE_TAG,
    Kind.OUTSIDE_FILES,
    Kind.OUTSIDE_EVIDENCE,
    Kind.OUTSIDE_RENAMED,
    Kind.OUTSIDE_DELETED,
    Kind.OUTSIDE_RECREATED,
    Kind.RESTORATION_CONFIRMED,
    Kind.ADOPTION_RECORDED,
)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """One version in Production. ``trend`` is the key metric over the model's newest versions, oldest first.

    ``gain`` is its difference to version ``before``, the champion it replaced; both None where there was none.
    """

    version: ModelVersion
    release: Release | None
    metric: str
    value: float | None
    trend: tuple[float, ...]
    gain: float | None
    before: int | None
    greater_is_better: bool

    @property
    def improved(self) -> bool:
        """Whether the gain is one."""
        return self.gain is not None and (self.gain > 0) == self.greater_is_better


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The numbers and lists of the home page. ``released`` counts all releases of the last `DAYS` days."""

    models: int
    in_production: int
    open_submissions: tuple[inbox.Item, ...]
    champions: tuple[Champion, ...]
    lately: tuple[Event, ...]
    under_way: tuple[Intent, ...]
    released: int
    emergencies: tuple[Emergency, ...] = ()

    def count(self, *statuses: Status) -> int:
        """How many open submissions are in one of the statuses."""
        return sum(item.status in statuses for item in self.open_submissions)


def overview(signoff: Signoff) -> Overview:
    """Put the home page together; needs MLflow only for what is not remembered."""
    snapshot = signoff.snapshot.current
    found = _champions(signoff, snapshot)
    gone_out = Filter(kinds=RELEASES, since=signoff.now() - timedelta(days=DAYS))
    with signoff.database.reading() as connection:
        lately = ledger.events(connection, Filter(kinds=LATELY), limit=EVENTS_SHOWN)
        released = ledger.count(connection, gone_out)
        under_way = intents.in_flight(connection)
    return Overview(
        models=len(snapshot.models),
        in_production=len(found),
        open_submissions=tuple(inbox.judged(signoff, inbox.queue(signoff))),
        champions=_with_trends(signoff, snapshot, found),
        lately=tuple(lately),
        under_way=tuple(under_way),
        released=released,
        emergencies=tuple(open_emergencies(signoff)),
    )


def _champions(signoff: Signoff, snapshot: Snapshot) -> list[tuple[ModelVersion, MetricRule]]:
    """Everything in Production with the rule on its key metric; a model that no one policy judges is left out."""
    found, policies = [], assignments.judges(signoff)
    for model in snapshot.models.values():
        try:
            policy = policies.match(model)
        except InvalidSettings:
            continue
        target = policy.rules.champion
        champion = snapshot.champion(model.name, target.alias, target.stage)
        if champion and champion.stage == target.stage:
            found.append((champion, policy.rules.metrics[0]))
    return found


def _with_trends(
    signoff: Signoff, snapshot: Snapshot, found: list[tuple[ModelVersion, MetricRule]]
) -> tuple[Champion, ...]:
    last = last_releases(signoff)
    # Those released last come first; what was never released through the gate comes after, by name.
    found = sorted(found, key=lambda pair: (-_seq(last, pair[0]), pair[0].ref))[:CHAMPIONS_SHOWN]
    shown = {version.ref.name: _trend_versions(snapshot, version, last) for version, _ in found}
    wanted = [version.run_id for versions in shown.values() for version in versions]
    try:
        runs = signoff.reader.runs(run_id for run_id in wanted if run_id)
    except RegistryUnavailable:
        runs = {}  # the cards still say what is in Production since when
    return tuple(
        _champion(
            version, rule, shown[version.ref.name], runs, last.get(version.ref.name) if _seq(last, version) else None
        )
        for version, rule in found
    )


def _trend_versions(
    snapshot: Snapshot, champion: ModelVersion, last: Mapping[str, Release]
) -> tuple[ModelVersion, ...]:
    """The model's newest versions, with the champion and the one it replaced however old they are."""
    versions = snapshot.versions.get(champion.ref.name, ())
    release = last.get(champion.ref.name)
    always = {champion.ref.version, release.replaced if release else None}
    return tuple(v for v in versions if v in versions[-VERSIONS_IN_TREND:] or v.ref.version in always)


def _champion(
    version: ModelVersion,
    rule: MetricRule,
    shown: tuple[ModelVersion, ...],
    runs: Mapping[str, RunFacts],
    release: Release | None,
) -> Champion:
    values = {v.ref.version: _value(runs, v, rule.name) for v in shown}
    mine, before = values.get(version.ref.version), release.replaced if release else None
    theirs = values.get(before) if before else None
    return Champion(
        version=version,
        release=release,
        metric=rule.name,
        value=mine,
        trend=tuple(value for value in values.values() if value is not None),
        gain=mine - theirs if mine is not None and theirs is not None else None,
        before=before,
        greater_is_better=rule.greater_is_better,
    )


def _seq(last: Mapping[str, Release], version: ModelVersion) -> int:
    release = last.get(version.ref.name)
    return release.seq if release and release.identity == version.identity else 0


def _value(runs: Mapping[str, RunFacts], version: ModelVersion, metric: str) -> float | None:
    run = runs.get(version.run_id or "")
    found = run.metrics.get(metric) if run else None
    return found.value if found and found.usable else None
