"""``python -m bench``: run every benchmark, print a table, write bench/results.json.

The big registry has 10,000 models of 10 versions. Its database is the file BENCH_BIG_DB names, or is made by
``../shared/bench/big_registry.py`` where that lies beside the checkout; without either it is skipped and said so.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench import big_registry, hook, long_record
from bench.measure import Figure

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run, print, write."""
    with tempfile.TemporaryDirectory(prefix="signoff-bench-") as folder:
        figures = [*big_registry.figures(Path(folder)), *long_record.figures(Path(folder)), *hook.figures(Path(folder))]
    _print(figures)
    packages = {name: importlib.metadata.version(name) for name in ("mlflow", "streamlit", "SQLAlchemy")}
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": packages,
        "figures": [figure.as_json() for figure in figures],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nWritten to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def _print(figures: list[Figure]) -> None:
    width = max(len(figure.what) for figure in figures) + 2
    print(f"\n{'':{width}}{'median':>12}{'worst':>12}{'limit':>10}{'MLflow calls':>14}")
    for figure in figures:
        calls = "" if figure.calls is None else f"{figure.calls}"
        limit = "" if figure.limit is None else f"{figure.limit:g}"
        over = "  OVER THE LIMIT" if figure.over else ""
        print(
            f"{figure.what:{width}}{figure.median:>8,.1f} {figure.unit:<3}{figure.worst:>8,.1f} {figure.unit:<3}"
            f"{limit:>10}{calls:>14}{over}"
        )


main()
