"""Which raster, and which of its bands, holds each step of a time series."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rasterio.io import DatasetReader

from releve.errors import RasterError, nearest
from releve.ingest.config import SeriesConfig
from releve.rasters.dates import band_steps
from releve.rasters.files import find_rasters, is_there, open_raster, variable_of, without_grids

FIELDS = ("channel", "year", "season")
Axes = tuple[int | None, ...]
"""Channel, year and season, from 0, that all bands of a raster have in common; None where they differ."""


def find_steps(config: SeriesConfig, root: Path, shape: tuple[int, int, int]) -> Iterator[tuple[str, dict[int, int]]]:
    """Yield what GDAL is to open and, for its bands, the step that each holds.

    What the name of a file does not say is told by its bands: by their time where they have one, else by their order
    (channels, in them years, in them seasons).

    Parameters
    ----------
    config
        Pattern, channels and years.
    root
        Folder that files are named from.
    shape
        Number of channels, years and seasons; a step is a place in it, counted through.

    Raises
    ------
    RasterError
        If no raster is found, or its bands do not fit.
    """
    for pattern in (config.file,) if isinstance(config.file, str) else config.file:
        fields = {field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None}
        if fields - set(FIELDS):
            unknown = sorted(fields - set(FIELDS))[0]
            raise RasterError(f"{pattern!r} has {{{unknown}}}", expected="{channel}, {year} and {season} at most")
        axes = [range(number) if name in fields else [None] for name, number in zip(FIELDS, shape, strict=True)]
        found = [(source, each) for each in itertools.product(*axes) for source in _files(pattern, each, config, root)]
        if not found:
            example = _format(pattern, (0, 0, 0), config)[0]
            raise RasterError(f"no raster of {pattern!r} in {root}", expected=f"files such as {example!r}")
        for source, each in found:
            with without_grids(), open_raster(source) as dataset:
                variables = _variables(dataset, each, config)
                steps = {} if variables else _steps(dataset, each, config, shape)
            if not variables:
                yield source, steps
            for name, channel in variables:
                with open_raster(name) as dataset:
                    steps = _steps(dataset, (channel, *each[1:]), config, shape)
                yield name, steps


def _format(pattern: str, axes: Axes, config: SeriesConfig) -> list[str]:
    """Return the names that a file of a channel, year and season may have: its number as 1 or as 01."""
    channel, year, season = (axis or 0 for axis in axes)
    facts = {"channel": config.channels[channel], "year": config.first_year + year}
    padded = pattern.replace("{season}", f"{season + 1:02d}")
    return list(dict.fromkeys(each.format(**facts, season=season + 1) for each in (pattern, padded)))


def _files(pattern: str, axes: Axes, config: SeriesConfig, root: Path) -> tuple[str, ...]:
    """Return the rasters of a channel, year and season; a step without any is missing."""
    names = _format(pattern, axes, config)
    if all(axis is None for axis in axes):
        return find_rasters(names[0], root)
    for name in names:
        if is_there(name, root):
            return find_rasters(name, root)
    return ()


def _variables(dataset: DatasetReader, axes: Axes, config: SeriesConfig) -> list[tuple[str, int]]:
    """Return the variables, in a file of several, that are the channels; empty if its own bands are meant."""
    inside = {variable_of(name): name for name in dataset.subdatasets}
    if not inside or (axes[0] is not None and dataset.count):
        return []
    wanted = range(len(config.channels)) if axes[0] is None else [axes[0]]
    for number in wanted:
        if config.channels[number] not in inside:
            raise RasterError(
                f"{dataset.name} has no variable {config.channels[number]!r}",
                action=nearest(config.channels[number], inside),
            )
    return [(inside[config.channels[number]], number) for number in wanted]


def _steps(dataset: DatasetReader, axes: Axes, config: SeriesConfig, shape: tuple[int, int, int]) -> dict[int, int]:
    """Return the step of each band; bands of other years have none."""
    within = tuple(number if axis is None else 1 for axis, number in zip(axes, shape, strict=True))
    first = tuple(axis or 0 for axis in axes)
    dated = band_steps(dataset, config.first_year, *shape[1:]) if axes[1:] == (None, None) and within[0] == 1 else None
    if dated is not None:
        return {band: first[0] * shape[1] * shape[2] + step for band, step in dated.items()}
    if dataset.count != np.prod(within):
        raise RasterError(
            f"{dataset.name} has {dataset.count} bands, and none says its time",
            expected=f"{np.prod(within)}: {within[0]} channels x {within[1]} years x {within[2]} seasons",
        )
    place = np.array(np.unravel_index(np.arange(dataset.count), within)).T + first
    return dict(enumerate(np.ravel_multi_index(tuple(place.T), shape).tolist(), 1))
