"""A calmer curve: an exponential moving average that does not lag behind at its beginning. Pure."""

from __future__ import annotations

from services.domain import Curve


def smoothed(points: Curve, weight: float) -> Curve:
    """Each value mixed with those before it; ``weight``, from 0 to below 1, is how much of the past is kept.

    Without the correction at the beginning a curve would seem to start at zero. Same as pandas'
    ``ewm(alpha=1 - weight, adjust=True).mean()``.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"A weight lies from 0 to below 1; {weight} does not.")
    total = mass = 0.0
    found: list[tuple[int, float]] = []
    for step, value in points:
        total, mass = total * weight + value, mass * weight + 1.0
        found.append((step, total / mass))
    return tuple(found)
