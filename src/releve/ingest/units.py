"""Columns in another unit than those that a model learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

CONVERSIONS: dict[str, tuple[float, float]] = {
    "times 10": (10, 0),
    "divided by 10": (0.1, 0),
    "times 100": (100, 0),
    "divided by 100": (0.01, 0),
    "times 1,000": (1000, 0),
    "divided by 1,000": (0.001, 0),
    "plus 273.15, as from °C to K": (1, 273.15),
    "minus 273.15, as from K to °C": (1, -273.15),
    "plus 273.15 and times 10, as from °C to K x 10": (10, 2731.5),
    "plus 2,731.5, as from °C x 10 to K x 10": (1, 2731.5),
    "minus 2,731.5, as from K x 10 to °C x 10": (1, -2731.5),
    "divided by 10 and minus 273.15, as from K x 10 to °C": (0.1, -273.15),
    "times 0.3048, as from feet to m": (0.3048, 0),
    "divided by 0.3048, as from m to feet": (1 / 0.3048, 0),
}
"""What would change one unit into another -> factor, offset added after it."""
PAIRED = CONVERSIONS | {
    "divided by 10 and plus 273.15, as from °C x 10 to K": (0.1, 273.15),
    "minus 273.15 and times 10, as from K to °C x 10": (10, -2731.5),
    "times 1.8 and plus 32, as from °C to °F": (1.8, 32),
    "minus 32 and divided by 1.8, as from °F to °C": (1 / 1.8, -32 / 1.8),
}
"""The same, and those that only pairs of values can tell from others."""
FEW, MOST = 0.1, 0.9
"""A column is elsewhere if at most the first share of its values lies in the range of training, and explained by a
conversion after which at least the second does."""


@dataclass(frozen=True)
class Elsewhere:
    """A column that lies outside what a model was trained on."""

    low: float
    high: float
    trained_low: float
    trained_high: float
    conversion: str | None
    """The likeliest of ``CONVERSIONS``, or None if none brings the values back."""


def find_elsewhere(values: ArrayLike, quantiles: Sequence[float]) -> Elsewhere | None:
    """Return how a column differs from that of the training rows if nearly all of it lies outside their range.

    Parameters
    ----------
    values
        The column; NaN is left out.
    quantiles
        Values of the training rows at equally spaced ranks, from the least to the greatest.

    Examples
    --------
    Precipitation in mm where the model learned from mm x 10:

    >>> found = find_elsewhere([546.0, 733.1, 1081.3], [4000.0, 6000.0, 7000.0, 8500.0, 12000.0])
    >>> found.conversion, found.low, found.trained_low
    ('times 10', 546.0, 4000.0)
    >>> find_elsewhere([4500.0, 9000.0, 20000.0], [4000.0, 6000.0, 7000.0, 8500.0, 12000.0]) is None
    True
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    trained = np.asarray(quantiles, np.float64)
    low, high = trained[0], trained[-1]
    if not len(known) or np.mean((known >= low) & (known <= high)) > FEW:
        return None
    middle, spread = np.median(trained), max(np.quantile(trained, 0.75) - np.quantile(trained, 0.25), 1e-12)
    best, distance = None, np.inf
    for name, (factor, offset) in CONVERSIONS.items():
        changed = known * factor + offset
        off = abs(np.median(changed) - middle) / spread
        if np.mean((changed >= low) & (changed <= high)) >= MOST and off < distance:
            best, distance = name, off
    return Elsewhere(float(known.min()), float(known.max()), float(low), float(high), best)


NEAR, FAR = 0.5, 5.0
"""Pairs of values are explained by a conversion after which they differ by less than the first, in spreads of the
values, and the second times less than before it."""
FEWEST = 5


def compare_units(values: ArrayLike, others: ArrayLike) -> str | None:
    """Return the conversion that turns one column into another of the same quantity at the same places.

    That of ``PAIRED`` after which the two differ least, in the median; None if they agree as they are, if none
    brings them together, or if fewer than five places have both.

    Parameters
    ----------
    values, others
        A number for each place; NaN where it is not known.

    Examples
    --------
    The highest temperature of a site in °C in a table, and in °C x 10 in a raster:

    >>> compare_units([31.4, 33.1, 27.7, 29.0, 35.2, 30.1], [312, 333, 275, 290, 355, 299])
    'times 10'
    >>> compare_units([31.4, 33.1, 27.7, 29.0, 35.2, 30.1], [31, 33, 28, 29, 36, 30]) is None
    True
    """
    first, second = np.asarray(values, np.float64), np.asarray(others, np.float64)
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < FEWEST:
        return None
    low, high = np.quantile(second, [0.25, 0.75])
    spread = max(high - low, 1e-3 * abs(np.median(second)), 1e-12)
    apart = {
        name: np.median(np.abs(first * factor + offset - second)) for name, (factor, offset) in CONVERSIONS.items()
    }
    best = min(apart, key=lambda name: apart[name])
    before = np.median(np.abs(first - second))
    return best if apart[best] < NEAR * spread and apart[best] * FAR < before else None


def notes_on_units(values: Mapping[str, ArrayLike], quantiles: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a sentence for each other unit that whole columns may be in, and one for those that none explains.

    Parameters
    ----------
    values
        Columns by name; NaN is left out.
    quantiles
        As of ``find_elsewhere``; columns without any are left out.

    Examples
    --------
    >>> notes_on_units({"Bio12": [546.0, 1081.0]}, {"Bio12": [4000.0, 7000.0, 12000.0]})[0]
    'Bio12 lies outside what the run was trained on (546 to 1,081, in training 4,000 to 12,000); times 10 it would not'
    """
    found: dict[str | None, dict[str, Elsewhere]] = {}
    for name, column in values.items():
        elsewhere = find_elsewhere(column, quantiles[name]) if name in quantiles else None
        if elsewhere is not None:
            found.setdefault(elsewhere.conversion, {})[name] = elsewhere
    notes = []
    for conversion, columns in found.items():
        name, first = next(iter(columns.items()))
        here, trained = (_range(*ends) for ends in ((first.low, first.high), (first.trained_low, first.trained_high)))
        several = len(columns) > 1
        what = f"{len(columns)} covariates ({', '.join(columns)}) lie" if several else f"{name} lies"
        example = f"{name} {here}" if several else here
        instead = f"; {conversion} {'they' if several else 'it'} would not" if conversion else ""
        notes.append(f"{what} outside what the run was trained on ({example}, in training {trained}){instead}")
    return notes


def _range(low: float, high: float) -> str:
    return f"{low:,.6g} to {high:,.6g}"
