"""What a policy asks of an offline validation: ``validation: {holdout: 9f86…0a08, target: y, min_improvement: 0}``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator


class ValidationRule(BaseModel):
    """Candidate and champion evaluated by us on one holdout, and by how much the candidate must be better there.

    The lower end of the confidence interval must be above ``min_improvement``, not the difference itself: 0 means
    "better, and that is more than chance", -0.01 means "surely less than 0.01 worse".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    holdout: str
    """The sha256 of its file, 64 digits. MLflow's eight digits name a data set and prove nothing: they cover its first
    10,000 rows, and other labels can have the same ones."""
    target: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    """The column of the holdout that is predicted: on another one the same file shows something else."""
    metric: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=250)] | None = None
    """By its name in the report, such as ``roc_auc``; None: the report's key metric."""
    min_improvement: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95

    @field_validator("holdout", mode="before")
    @classmethod
    def _by_sha256(cls, holdout: Any) -> Any:
        if not isinstance(holdout, str) or not re.fullmatch(r"[0-9a-f]{64}", holdout):
            raise ValueError(
                "a holdout is named by the sha256 of its file, 64 hexadecimal digits (sha256sum FILE); "
                "MLflow's eight digits are not enough, other labels can have the same ones"
            )
        return holdout
