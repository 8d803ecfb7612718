"""MLflow's own evaluator over answers that were already given: its metrics and its pictures.

No model is here: a stand-in gives back the answers, so that ``mlflow.models.evaluate`` does what it does for one.
What is written to ``result_fd``: the length of a JSON header in 4 bytes, the header, then the pictures' bytes.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
import warnings
from pathlib import Path
from typing import Any


class Replay:
    """Stands where a model would: row 5 is answered as the model answered it."""

    def __init__(self, answers: Any, probabilities: Any) -> None:
        self._answers = answers
        if probabilities is not None:
            self.predict_proba = lambda rows: probabilities[rows["row"].to_numpy()]

    def predict(self, rows: Any, **_: Any) -> Any:
        """The answers, by the number of the row."""
        return self._answers[rows["row"].to_numpy()]


def main() -> None:
    """Obey the order in the first argument: ``data`` is a file of arrays, two or three for each of ``models``."""
    import numpy as np

    order = json.loads(sys.argv[1])
    os.environ |= {"MLFLOW_TRACKING_URI": Path("tracking").absolute().as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    warnings.simplefilter("ignore")
    arrays = np.load(order["data"], allow_pickle=False)
    found, pictures = {}, []
    for name in order["models"]:
        metrics, files = _evaluated(order, arrays["truth"], arrays[f"{name}_answers"], arrays.get(f"{name}_chances"))
        found[name] = metrics
        pictures += [(f"{name}_{file.name}", file.read_bytes()) for file in files]
    header = json.dumps({"metrics": found, "pictures": [[name, len(content)] for name, content in pictures]}).encode()
    with os.fdopen(order["result_fd"], "wb") as result:
        result.write(struct.pack("<I", len(header)) + header)
        for _, content in pictures:
            result.write(content)


def _evaluated(order: dict[str, Any], truth: Any, answers: Any, chances: Any) -> tuple[dict[str, float], list[Path]]:
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    described = Model(flavors={"python_function": {"loader_module": "mlflow.sklearn"}})
    frame = pd.DataFrame({"row": np.arange(len(truth)), "target": truth})
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(
            model=PyFuncModel(model_meta=described, model_impl=Replay(answers, chances)),
            data=frame,
            targets="target",
            model_type=order["task"],
            evaluators=["default"],
            evaluator_config={"default": {"log_model_explainability": False, **order["config"]}},
        )
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    metrics = {name: float(value) for name, value in result.metrics.items()}
    return metrics, sorted(folder.rglob("*.png"))
