"""Data sets by the names MLflow gives them."""

from __future__ import annotations

import pandas as pd
from mlflow.data.digest_utils import compute_pandas_digest


def digest_of(frame: pd.DataFrame) -> str:
    """The digest that ``mlflow.data.from_pandas`` gives these rows: of the first 10,000, the columns and the count.

    It is how data are called in MLflow, not a proof of what they are; the sha256 of a file is that.
    """
    return str(compute_pandas_digest(frame))
