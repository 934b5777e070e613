"""Values of layers at places: every block of a file is read once, in parallel, and a killed run goes on."""

# N places, K columns

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releve.rasters.grid import Grid, Located, locate_all
from releve.rasters.layer import Layer
from releve.rasters.plan import plan_units
from releve.rasters.work import do_units

NUM_LOOKED_AT = 10_000
PERFECT = 1 - 1e-6
"""Correlation from which on two columns are one; values are float32."""
VARIES = 1e-6
"""Least standard deviation, as a share of the largest value, of a column that is not constant."""


@dataclass(frozen=True)
class Sampled:
    """Values of layers at places."""

    values: NDArray[np.float32]
    """(N, K), NaN where a layer has no data or the place lies outside; classes are their codes."""
    names: tuple[str, ...]
    """(K,) of the columns."""
    outside: dict[str, int]
    """Layer -> number of places outside its grid."""
    on_nodata: dict[str, int]
    """Layer -> number of places on its grid where it has no data."""
    constant: tuple[str, ...]
    """Layers of which all places have the same value; of two places at least."""
    empty: tuple[str, ...]
    """Layers without data at any place."""
    num_outside_all: int
    """Places outside all layers."""
    correlated: tuple[tuple[str, str], ...]
    """Columns that tell the same: see :func:`correlated_columns`."""


def sample_layers(
    layers: Sequence[Layer],
    lon: ArrayLike,
    lat: ArrayLike,
    *,
    work: Path | None = None,
    num_workers: int = 0,
    scheduler: str | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Sampled:
    """Return the values of layers at places.

    Parameters
    ----------
    layers
        What :func:`releve.rasters.layers.open_layers` returns.
    lon, lat
        (N,) degrees (EPSG:4326); a place that is not finite lies outside.
    work
        Folder that keeps what is finished, so that a killed call goes on with the same bytes; remove it when done. By
        default nothing is kept.
    num_workers
        Threads, or processes of a local cluster; 0 means one a core.
    scheduler
        Address of a Dask scheduler whose workers see the same files, or ``local`` for a cluster on this machine.
    advance
        Called with the units of work that are done, and their number.

    Raises
    ------
    RasterError
        If a file cannot be read.
    ReleveError
        If ``scheduler`` is given and Dask is not installed or does not answer.
    """
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    names = tuple(column for layer in layers for column in layer.columns)
    located = locate_all([layer.grid for layer in layers], lon, lat)
    planned = plan_units(layers, located)
    values = np.full((len(lon), len(names)), np.nan, np.float32)
    done = 0
    advance(done, len(planned))
    for index, part in do_units([each.unit for each in planned], work, num_workers, scheduler):
        values[planned[index].places[:, None], planned[index].columns] = part
        done += 1
        advance(done, len(planned))
    return _judged(layers, names, values, located)


def _judged(
    layers: Sequence[Layer],
    names: tuple[str, ...],
    values: NDArray[np.float32],
    located: dict[Grid, Located],
) -> Sampled:
    """Return the values and what there is to say about them."""
    starts = np.cumsum([0, *(len(layer.columns) for layer in layers)])
    outside, on_nodata, constant, empty = {}, {}, [], []
    inside_any = np.zeros(len(values), bool)
    for index, layer in enumerate(layers):
        inside = located[layer.grid].inside
        inside_any |= inside
        part = values[:, starts[index] : starts[index + 1]]
        known = np.isfinite(part).all(axis=1)
        outside[layer.name] = int((~inside).sum())
        on_nodata[layer.name] = int((inside & ~known).sum())
        found = part[known]
        if not len(found):
            empty.append(layer.name)
        elif len(found) > 1 and (found == found[0]).all():
            constant.append(layer.name)
    return Sampled(
        values=values,
        names=names,
        outside=outside,
        on_nodata=on_nodata,
        constant=tuple(constant),
        empty=tuple(empty),
        num_outside_all=int((~inside_any).sum()),
        correlated=correlated_columns(values, names),
    )


def correlated_columns(values: NDArray[np.floating], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of columns of which each is a straight line of the other, as one in other units is.

    Parameters
    ----------
    values
        (N, K), NaN where missing; ten thousand rows are looked at, three at least.
    names
        (K,) names.

    Examples
    --------
    >>> import numpy as np
    >>> kelvin = np.array([280.0, 290.0, 285.0, np.nan])
    >>> correlated_columns(np.stack([kelvin, kelvin - 273.15, kelvin**2], axis=1), ["K", "C", "square"])
    (('K', 'C'),)
    """
    some = values[:: max(1, len(values) // NUM_LOOKED_AT)].astype(np.float64)
    known = np.isfinite(some)
    count = known.sum(axis=0)
    scale = np.abs(np.where(known, some, 0.0)).max(axis=0, initial=1e-30)
    some = np.where(known, some / scale, 0.0)
    some = np.where(known, some - some.sum(axis=0) / np.maximum(count, 1), 0.0)
    # Sums over the rows where both columns of a pair are known: (K, K).
    mask = known.astype(np.float64)
    number = np.maximum(mask.T @ mask, 1.0)
    total = some.T @ mask
    square = np.square(some).T @ mask - total**2 / number
    product = some.T @ some - total * total.T / number
    varies = (square / number > VARIES**2) & (square.T / number > VARIES**2) & (number >= 3)
    alike = varies & (product**2 > PERFECT**2 * square * square.T)
    return tuple((names[i], names[j]) for i, j in zip(*np.nonzero(np.triu(alike, 1)), strict=True))
