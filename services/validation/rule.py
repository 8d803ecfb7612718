"""What a policy asks of an offline validation: ``validation: {holdout: 9f86d081, min_improvement: 0.0}``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}([0-9a-f]{56})?$")]


class ValidationRule(BaseModel):
    """Candidate and champion evaluated by us on one holdout, and by how much the candidate must be better there.

    The lower end of the confidence interval must be above ``min_improvement``, not the difference itself: 0 means
    "better, and that is more than chance", -0.01 means "surely less than 0.01 worse".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    holdout: Digest
    """MLflow's digest of the data set, or the sha256 of its file: eight digits can be met on purpose."""
    metric: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=250)] | None = None
    """By its name in the report, such as ``roc_auc``; None: the report's key metric."""
    min_improvement: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
