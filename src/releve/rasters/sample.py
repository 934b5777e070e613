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
    return Sampled(values, names, outside, on_nodata, tuple(constant), tuple(empty), int((~inside_any).sum()))
