"""``python -m bench [NAME …]``: run every benchmark, or those named, print a table, write bench/results.json.

The big registry has 10,000 models of 10 versions. Its database is the file BENCH_BIG_DB names, or is made by
``../shared/bench/big_registry.py`` where that lies beside the checkout; without either it is skipped and said so.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import sys
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

from bench import big_registry, compare, files, hook, ledger, long_record, promotion
from bench.measure import Figure

RESULTS = Path(__file__).with_name("results.json")
BENCHMARKS = {
    "big-registry": big_registry.figures,
    "long-record": long_record.figures,
    "ledger": ledger.figures,
    "files": files.figures,
    "promotion": promotion.figures,
    "hook": hook.figures,
    "compare": compare.figures,
}


def main(names: list[str]) -> None:
    """Run, print, write."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}.")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    figures: list[Figure] = []
    before = os.getloadavg()[0]
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="signoff-bench-") as folder:
            figures += BENCHMARKS[name](Path(folder))
    _print(figures)
    load = (before, os.getloadavg()[0])
    print(f"\nLoad of the machine ({os.cpu_count()} cores): {load[0]:.1f} before, {load[1]:.1f} after.")
    packages = {name: importlib.metadata.version(name) for name in ("mlflow", "streamlit", "SQLAlchemy")}
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": load,
        "packages": packages,
        "figures": [figure.as_json() for figure in figures],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    print(f"Written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def _print(figures: list[Figure]) -> None:
    width = max((len(figure.what) for figure in figures), default=0) + 2
    print(f"\n{'':{width}}{'median':>14}{'worst':>14}{'goal':>9}{'MLflow calls':>14}")
    for figure in figures:
        calls = "" if figure.calls is None else f"{figure.calls}"
        goal = "" if figure.limit is None else f"≤ {figure.limit:g}"
        goal = goal if figure.least is None else f"≥ {figure.least:g}"
        missed = "  MISSED" if figure.missed else ""
        print(
            f"{figure.what:{width}}{_number(figure, figure.median):>14}{_number(figure, figure.worst):>14}"
            f"{goal:>9}{calls:>14}{missed}"
        )


def _number(figure: Figure, value: float) -> str:
    return f"{value:,.{2 if abs(value) < 10 else 1}f} {figure.unit:<4}"


main(sys.argv[1:])
