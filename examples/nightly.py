"""The whole night as a plain script: ``python examples/nightly.py``, from cron or by hand; see pipeline.py.

Exit codes are those of the command line: 0 in Production · 1 refused, or waiting for people · 3 unreachable.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import mlflow
import requests
from pipeline import Refused, Waiting, approve, evaluate, notify, promote, train


def main(night: str) -> int:
    """Run one night; the same one again takes up where it stopped."""
    try:
        version = train(night)
        evaluate(version)
        approve(version)
        try:
            print(promote(version))
        finally:
            notify(version)
    except (Refused, Waiting) as error:
        print(error, file=sys.stderr)
        return 1
    except (requests.RequestException, mlflow.MlflowException) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else f"{datetime.now(UTC):%Y-%m-%d}"))
