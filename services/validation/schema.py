"""What a model is given of a holdout: the columns its signature names, in its order and types; or why it fits not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from services.domain import Column, Signature
from services.validation.errors import WrongColumn, WrongType
from services.validation.holdout import Holdout

WHOLE: Mapping[str, Any] = {"integer": "int32", "long": "int64"}
REAL: Mapping[str, Any] = {"float": "float32", "double": "float64"}
_TENSOR = re.compile(r"tensor (\S+) [\[(](-?\d+), (\d+)[\])]")

Rows = pd.DataFrame | npt.NDArray[np.generic]


def rows_for(holdout: Holdout, signature: Signature | None, whose: str) -> Rows:
    """All rows as the model takes them; without a signature every column but the target, as it is.

    Raises:
        WrongColumn: a required column is missing, or the model takes the target itself.
        WrongType: a column's values are not of the type that is named.
    """
    given = holdout.frame.drop(columns=holdout.facts.target)
    if signature is None or not signature.inputs:
        return given
    if len(signature.inputs) == 1 and signature.inputs[0].type.startswith("tensor "):
        return _tensor(given, signature.inputs[0], whose)
    wanted = signature.inputs
    if holdout.facts.target in {column.name for column in wanted}:
        raise WrongColumn(f"{whose} takes {holdout.facts.target!r} as an input; it cannot be the target as well.")
    missing = [column.name for column in wanted if column.required and column.name not in given.columns]
    if missing:
        raise WrongColumn(f"{whose} needs {_listed(missing)}, which the holdout does not have.")
    return pd.DataFrame(
        {column.name: _typed(given, column, whose) for column in wanted}, index=given.index
    )  # a column that is not asked for is left out, as MLflow does


def _typed(given: pd.DataFrame, column: Column, whose: str) -> pd.Series:
    if column.name not in given.columns:  # an optional one
        return pd.Series(np.nan, index=given.index, dtype=np.float64)
    values = given[column.name]
    for kinds, convert in _CONVERSIONS:
        if column.type in kinds:
            if (converted := convert(values, column)) is None:
                raise WrongType(f"{whose} takes {column.type} in {column.name!r}; the holdout has {_found(values)}.")
            return converted
    return values  # arrays, maps, objects: as they are


def _whole(values: pd.Series, column: Column) -> pd.Series | None:
    if types.is_bool_dtype(values) or not types.is_numeric_dtype(values) or values.isna().any():
        return None
    bounds = np.iinfo(WHOLE[column.type])
    if not ((values == values.round()) & values.between(bounds.min, bounds.max)).all():
        return None
    converted: pd.Series = values.astype(WHOLE[column.type])
    return converted


def _real(values: pd.Series, column: Column) -> pd.Series | None:
    if types.is_bool_dtype(values) or not types.is_numeric_dtype(values):
        return None
    converted: pd.Series = values.astype(REAL[column.type])
    return converted


def _text(values: pd.Series, _: Column) -> pd.Series | None:
    if not types.is_object_dtype(values) and not types.is_string_dtype(values):
        return None
    present = values.dropna()
    return values if present.map(lambda value: isinstance(value, str)).all() else None


def _truth(values: pd.Series, _: Column) -> pd.Series | None:
    return values if types.is_bool_dtype(values) else None


def _time(values: pd.Series, _: Column) -> pd.Series | None:
    if types.is_datetime64_any_dtype(values):
        return values
    if not types.is_object_dtype(values) and not types.is_string_dtype(values):
        return None
    try:
        return pd.to_datetime(values, format="ISO8601")
    except (ValueError, TypeError):
        return None


_CONVERSIONS: tuple[tuple[frozenset[str], Callable[[pd.Series, Column], pd.Series | None]], ...] = (
    (frozenset(WHOLE), _whole),
    (frozenset(REAL), _real),
    (frozenset({"string"}), _text),
    (frozenset({"boolean"}), _truth),
    (frozenset({"datetime"}), _time),
)


def _tensor(given: pd.DataFrame, column: Column, whose: str) -> Rows:
    """A model trained on a plain array: every column but the target, in the file's order."""
    if not (shape := _TENSOR.fullmatch(column.type)):
        raise WrongType(f"{whose} takes a {column.type}, which no table gives.")
    dtype, width = shape.group(1), int(shape.group(3))
    if len(given.columns) != width:
        raise WrongColumn(
            f"{whose} takes {width:,} columns without names; the holdout has {len(given.columns):,} beside the target."
        )
    for name in given.columns:
        if not types.is_numeric_dtype(given[name]):
            raise WrongType(f"{whose} takes {dtype} throughout; the holdout has {_found(given[name])} in {name!r}.")
    return given.to_numpy(dtype=np.dtype(dtype))


def _found(values: pd.Series) -> str:
    if values.isna().any() and types.is_numeric_dtype(values):
        return "missing values"
    if types.is_bool_dtype(values):
        return "true and false"
    if types.is_numeric_dtype(values):
        return "fractions" if types.is_float_dtype(values) and (values % 1 != 0).any() else "numbers"
    if types.is_datetime64_any_dtype(values):
        return "times"
    return f"text such as {str(values.dropna().iloc[0])[:40]!r}" if values.notna().any() else "nothing"


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
