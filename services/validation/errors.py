"""Why a validation ended without a report. Each is one sentence that is safe to show; none leaves evidence behind."""

from __future__ import annotations

from services.errors import BadInput, Refused, SignoffError


class HoldoutRefused(BadInput):
    """The holdout is not one that could be evaluated on. What is wrong with it is named by the class below this."""


class UnreadableHoldout(HoldoutRefused):
    """Neither a CSV nor a Parquet file that can be read."""


class HoldoutTooLarge(HoldoutRefused):
    """More bytes, rows or columns than the limits allow; found out before the file is read."""


class EmptyHoldout(HoldoutRefused):
    """No rows."""


class WrongColumn(HoldoutRefused):
    """The target, or a column that a model's signature requires, is not in the data."""


class WrongType(HoldoutRefused):
    """A column's values are not of the type that a model's signature names."""


class MissingTargets(HoldoutRefused):
    """Some rows have no target, or one that is no finite number."""


class OneClassOnly(HoldoutRefused):
    """Every row has the same target, so nothing can be told apart."""


class SourceNotAllowed(Refused):
    """The server may not read from there: no folder or scheme that an administrator listed."""


class ConsentNeeded(Refused):
    """Loading the model runs code that came with it, or the machine cannot isolate it; somebody must say so."""


class ModelFailed(SignoffError):
    """A model could not be loaded, raised, or gave something else than predictions. Names whose it is."""


class ModelOverLimit(ModelFailed):
    """A model needed more time, memory or space than it may have, and was stopped."""


class ValidationCancelled(SignoffError):
    """Somebody asked to stop."""
