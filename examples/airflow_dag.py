"""The same night as an Airflow DAG: copy this file and pipeline.py into the DAGs folder.

Set the variables of pipeline.py in the workers' environment, the token from a secret. While people have yet to
approve, `promote` is tried again every quarter of an hour for three days; Signoff counts its refusals as one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pipeline
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

T = TypeVar("T")


@dag(
    schedule="17 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2},
    tags=["signoff"],
)
def nightly_model() -> None:
    """Train, evaluate, approve, promote, notify."""

    @task
    def train(run_id: str | None = None) -> int:
        return pipeline.train(str(run_id))  # Airflow fills it in

    @task
    def evaluate(version: int) -> dict[str, float]:
        return final(pipeline.evaluate, version)

    @task
    def approve(version: int) -> str:
        return final(pipeline.approve, version)

    @task(retries=4 * 24 * 3, retry_delay=timedelta(minutes=15))
    def promote(version: int) -> str:
        return final(pipeline.promote, version)

    @task(trigger_rule="all_done")
    def notify(version: int | None) -> str:
        return pipeline.notify(version)

    version = train()
    evaluate(version) >> approve(version) >> promote(version) >> notify(version)


def final(step: Callable[[int], T], version: int) -> T:
    """What is refused is refused the next time too: it is not tried again."""
    try:
        return step(version)
    except pipeline.Refused as error:
        raise AirflowFailException(str(error)) from error


nightly_model()
