"""One version of a model in Production, whoever writes into MLflow's database: the index as a backstop."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from mlflow_gate.__main__ import ADDRESS, CREATED, UNIQUE, main
from tests.conftest import BOTH

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
TABLE = (
    "CREATE TABLE model_versions (workspace VARCHAR(63), name VARCHAR(256), version INTEGER, "
    "current_stage VARCHAR(20), creation_time BIGINT)"
)
"""As far as it matters here; MLflow's own takes half a minute of migrations."""


@pytest.fixture
def engine(database_url: str) -> sa.Engine:
    made = sa.create_engine(database_url)
    with made.begin() as connection:
        connection.execute(sa.text(TABLE))
    return made


def put(engine: sa.Engine, version: int, stage: str, name: str = "m", workspace: str = "default") -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO model_versions VALUES (:workspace, :name, :version, :stage, 1)"),
            {"workspace": workspace, "name": name, "version": version, "stage": stage},
        )


def indexes(engine: sa.Engine) -> set[str | None]:
    return {index["name"] for index in sa.inspect(engine).get_indexes("model_versions")}


def test_it_lets_one_version_be_in_production_and_any_number_elsewhere(engine: sa.Engine, database_url: str) -> None:
    put(engine, 1, "Production")
    assert main(["index", database_url]) == 0
    assert main(["index", database_url]) == 0
    assert {UNIQUE, CREATED} <= indexes(engine)
    for stage in ("Archived", "Archived", "Staging", "Staging", "None"):
        put(engine, 2, stage)
    put(engine, 1, "Production", name="n")
    put(engine, 1, "Production", workspace="team-a")
    with pytest.raises(sa.exc.IntegrityError):
        put(engine, 3, "Production")


def test_it_is_refused_while_two_are_there_and_named(
    engine: sa.Engine, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(engine, 1, "Production")
    put(engine, 2, "Production")
    assert main(["index", database_url]) == 1
    assert "'m' in default" in capsys.readouterr().err
    assert UNIQUE not in indexes(engine)


def test_it_can_be_taken_away(engine: sa.Engine, database_url: str) -> None:
    main(["index", database_url])
    assert main(["index", database_url, "--drop"]) == 0
    assert not {UNIQUE, CREATED} & indexes(engine)


def test_without_an_address_it_takes_the_one_that_the_server_has(
    engine: sa.Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    assert main(["index"]) == 1
    assert ADDRESS in capsys.readouterr().err
    assert UNIQUE not in indexes(engine)
    monkeypatch.setenv(ADDRESS, "postgresql://nobody@127.0.0.1:1/other")
    assert main(["index", database_url]) == 0, "the one that is named goes first"
    monkeypatch.setenv(ADDRESS, database_url)
    assert main(["index", "--drop"]) == 0
    assert not {UNIQUE, CREATED} & indexes(engine)


def test_a_database_without_a_registry_is_said_to_be_one(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", database_url]) == 1
    assert "start the MLflow server once" in capsys.readouterr().err


def test_mlflows_own_address_of_postgresql_needs_either_driver(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(*installed: str) -> str:
        asked: list[str] = []
        monkeypatch.setattr("mlflow_gate.__main__.find_spec", lambda name: name if name in installed else None)
        monkeypatch.setattr(sa, "create_engine", lambda url: asked.append(url.drivername) or pytest.fail("not used"))
        with pytest.raises(pytest.fail.Exception):
            main(["index", "postgresql://signoff:secret@db.example/mlflow"])
        return asked[0]

    assert tried("psycopg") == "postgresql+psycopg"
    assert tried("psycopg2") == tried("psycopg", "psycopg2") == "postgresql+psycopg2"
    monkeypatch.undo()
    assert main(["index", "postgresql+asyncpg://db.example/mlflow"]) == 1
    assert "pip install './mlflow_gate[postgresql]'" in capsys.readouterr().err


def test_such_an_address_is_enough_on_a_real_server(engine: sa.Engine, database_url: str) -> None:
    assert main(["index", database_url.replace("postgresql+psycopg:", "postgresql:")]) == 0
    assert UNIQUE in indexes(engine)
