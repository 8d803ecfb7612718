"""One registered model as a row of the Registry page, and the key metric that is read for the rows on screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from services.assignments import Judges
from services.domain import ModelVersion, RegisteredModel, RunFacts, Stage
from services.errors import InvalidSettings
from services.policy import Target
from services.signoff import Signoff
from services.snapshot import champion_of

TREND_VERSIONS = 8
"""Versions a trend looks back on; 25 rows of 8 are the 200 runs that MLflow is asked for in one call."""

_WITHOUT_POLICY = (
    Target(stage=Stage.PRODUCTION, alias="champion"),
    Target(stage=Stage.STAGING, alias="challenger"),
    None,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One registered model in the list.

    ``status`` is the review status of the challenger, or of the newest version where there is none; ``metric`` the
    name of the policy's key metric, None where no policy judges the model; ``tag_keys`` and ``haystack`` are what is
    searched, without case.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    champion: ModelVersion | None
    challenger: ModelVersion | None
    stages: frozenset[str]
    status: str | None
    owner: str | None
    tags: Mapping[str, str]
    changed_at: datetime
    metric: str | None
    tag_keys: frozenset[str]
    haystack: str

    @property
    def trended(self) -> tuple[ModelVersion, ...]:
        """The versions whose metrics a list shows, oldest first: the newest ones, and the champion in any case."""
        newest = self.versions[-TREND_VERSIONS:]
        if self.champion is None or self.champion in newest:
            return newest
        return (self.champion, *newest[1:])


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row with the champion's key metric and its course over `Row.trended`.

    Without ``value`` there is no evidence; unless ``read`` is False, then nobody knows yet.
    """

    row: Row
    value: float | None = None
    trend: tuple[float, ...] = ()
    read: bool = True


def row_of(policies: Judges, model: RegisteredModel, versions: tuple[ModelVersion, ...]) -> Row:
    """The row of one registered model; ``versions`` are oldest first."""
    champion_target, candidate_target, metric = _judged_by(policies, model)
    champion = champion_of(model, versions, alias=champion_target.alias, stage=champion_target.stage)
    challenger = champion_of(model, versions, alias=candidate_target.alias, stage=candidate_target.stage)
    asked = challenger or (versions[-1] if versions else None)
    tags = [f"{key}:{value}" for key, value in model.tags.items()]
    return Row(
        name=model.name,
        versions=versions,
        champion=champion,
        challenger=challenger,
        stages=frozenset(version.stage for version in versions),
        status=asked.status if asked else None,
        owner=model.owner,
        tags=model.tags,
        changed_at=max([model.updated_at, *(version.updated_at for version in versions)]),
        metric=metric,
        tag_keys=frozenset(word.casefold() for word in (*model.tags, *tags)),
        haystack="\n".join((model.name, model.description, *tags)).casefold(),
    )


def _judged_by(policies: Judges, model: RegisteredModel) -> tuple[Target, Target, str | None]:
    """Targets of champion and candidate, and the key metric; MLflow's customary ones where no policy judges."""
    try:
        policy = policies.match(model)
    except InvalidSettings:
        return _WITHOUT_POLICY
    return policy.rules.champion, policy.rules.candidate, policy.key_metric


def run_ids(rows: Iterable[Row]) -> tuple[str, ...]:
    """The runs behind what a list shows of ``rows``."""
    return tuple(version.run_id for row in rows for version in row.trended if version.run_id)


def ask(signoff: Signoff, wanted: Iterable[str]) -> Future[Mapping[str, RunFacts]]:
    """Runs by id, asked for in one call in the background; remembered ones need none.

    In the background, because MLflow takes half a second for two hundred runs, and typing into a search box must not
    wait for that. The future raises `RegistryUnavailable` when MLflow does not answer.
    """
    return signoff.pools.key_metrics.submit(signoff.reader.runs, wanted)


def lines(rows: Iterable[Row], runs: Mapping[str, RunFacts], *, complete: bool = True) -> list[Line]:
    """``rows`` with what ``runs`` say of their key metrics; values one cannot compare are left out of a trend.

    ``complete`` says that a run which is not among ``runs`` does not exist, and was not only not read.
    """
    return [
        Line(
            row=row,
            value=_value(row, row.champion, runs),
            trend=tuple(value for version in row.trended if (value := _value(row, version, runs)) is not None),
            read=complete or any(version.run_id in runs for version in row.trended),
        )
        for row in rows
    ]


def _value(row: Row, version: ModelVersion | None, runs: Mapping[str, RunFacts]) -> float | None:
    run = runs.get(version.run_id) if version and version.run_id else None
    metric = run.metrics.get(row.metric) if run and row.metric else None
    return metric.value if metric and metric.usable else None
