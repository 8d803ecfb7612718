"""``python -m mlflow_gate index [URL]``: the indexes in MLflow's database that README.md speaks of."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec

import sqlalchemy as sa

UNIQUE, CREATED = "uq_signoff_one_in_production", "ix_signoff_model_versions_created"
ADDRESS = "MLFLOW_BACKEND_STORE_URI"
MAKE = (
    f"CREATE UNIQUE INDEX IF NOT EXISTS {UNIQUE} ON model_versions (workspace, name) "
    "WHERE current_stage = 'Production'",
    f"CREATE INDEX IF NOT EXISTS {CREATED} ON model_versions (creation_time)",
)
DRIVERS = "For PostgreSQL: pip install './mlflow_gate[postgresql]', or psycopg2 or psycopg."
TWICE = (
    "SELECT workspace, name FROM model_versions WHERE current_stage = 'Production' "
    "GROUP BY workspace, name HAVING count(*) > 1 ORDER BY workspace, name"
)


def main(arguments: list[str] | None = None) -> int:
    """Make the indexes, or drop them; 0 when that is done, 1 with the reason otherwise."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_gate", description=__doc__)
    parser.add_argument("command", choices=["index"])
    parser.add_argument(
        "url",
        nargs="?",
        default=os.environ.get(ADDRESS),
        help=f"MLflow's database, as in --backend-store-uri: SQLite or PostgreSQL. Without it {ADDRESS} counts, and no "
        "list of processes shows the password",
    )
    parser.add_argument("--drop", action="store_true", help="take the indexes away again")
    asked = parser.parse_args(arguments)
    if not asked.url:
        return _failed(f"Name MLflow's database, or set {ADDRESS}.")
    try:
        return _index(sa.create_engine(_with_driver(asked.url)), drop=asked.drop)
    except ImportError as error:
        return _failed(f"The driver of this database is not installed ({error}). {DRIVERS}")
    except sa.exc.SQLAlchemyError as error:
        return _failed(f"MLflow's database cannot be used: {str(error).splitlines()[0]}")


def _with_driver(url: str) -> sa.URL:
    """The URL with a driver that is installed: SQLAlchemy would look for psycopg2 alone."""
    parsed = sa.make_url(url)
    if parsed.drivername not in {"postgres", "postgresql"}:
        return parsed
    driver = next((name for name in ("psycopg2", "psycopg") if find_spec(name)), "psycopg2")
    return parsed.set(drivername=f"postgresql+{driver}")


def _index(engine: sa.Engine, *, drop: bool) -> int:
    if engine.dialect.name not in {"sqlite", "postgresql"}:
        return _failed(f"Only SQLite and PostgreSQL can have this index; this is {engine.dialect.name}.")
    with engine.begin() as connection:
        if drop:
            for name in (UNIQUE, CREATED):
                connection.execute(sa.text(f"DROP INDEX IF EXISTS {name}"))
            print("The indexes are dropped.")
            return 0
        if not sa.inspect(connection).has_table("model_versions"):
            return _failed(
                "MLflow has made no tables in this database yet: start the MLflow server once, which makes them, then "
                "come back. The server may go on running."
            )
        if twice := connection.execute(sa.text(TWICE)).all():
            named = ", ".join(f"{name!r} in {workspace}" for workspace, name in twice[:20])
            return _failed(f"Two versions are in Production of {named}. Archive all but one of each first.")
        for statement in MAKE:
            connection.execute(sa.text(statement))
    print("One version of a model can be in Production, whoever writes into this database.")
    return 0


def _failed(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
