"""Time series at places, from dated rasters or from cubes with a time axis."""

# N places, C channels, Y years, Q seasons

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import RasterError
from releve.ingest.chunks import ChunkSource
from releve.ingest.config import RasterConfig, SeriesConfig
from releve.ingest.cubes import OUT_OF_RANGE, SeriesChunk
from releve.ingest.problems import Problem
from releve.rasters.dated import find_steps
from releve.rasters.grid import Grid, Located, locate_all, select_places
from releve.rasters.layer import Layer
from releve.rasters.layers import open_layers
from releve.rasters.plan import plan_units
from releve.rasters.stored import encode, stored_type

SEASONS = {"landsat": 4, "climate": 12}
"""Modality -> seasons of a year."""


@dataclass(frozen=True)
class RasterSeries(ChunkSource[SeriesChunk]):
    """The series of one modality and split. Small enough to be sent to another process."""

    split: str
    modality: str
    has: NDArray[np.bool_]
    """Aligned to the survey table: the survey lies on a raster."""
    rows: NDArray[np.int64]
    """Positions, in the survey table, of those that do; neighbours on the ground follow one another."""
    survey_ids: pl.Series
    channel_names: tuple[str, ...]
    shape: tuple[int, int, int]
    """Channels, years, seasons."""
    first_year: int
    dtype: np.dtype
    fill: float
    units: str
    low: float
    high: float
    layers: tuple[Layer, ...]
    steps: NDArray[np.int64]
    """Of each layer: its place in (channels, years, seasons), counted through."""
    located: dict[Grid, Located]
    """All surveys, on each grid of the layers."""
    kind: str = "raster"

    @property
    def seasons_per_year(self) -> int:
        """4 quarters or 12 months."""
        return self.shape[2]

    def read_chunk(self, index: int, chunk_size: int = 256) -> SeriesChunk:
        """Return one chunk; a survey without any value is left out, with a problem.

        Raises
        ------
        RasterError
            If a raster cannot be read.
        """
        rows = np.sort(self.chunk_rows(index, chunk_size))
        found = np.full((len(rows), len(self.layers)), np.nan, np.float32)
        for planned in plan_units(self.layers, {g: select_places(at, rows) for g, at in self.located.items()}):
            found[planned.places[:, None], planned.columns] = planned.unit.read()
        with np.errstate(invalid="ignore"):
            impossible = (found < self.low) | (found > self.high)
        found[impossible] = np.nan
        values = np.full((len(rows), int(np.prod(self.shape))), np.nan, np.float32)
        values[:, self.steps] = found
        empty = np.isnan(values).all(axis=1)
        problems = [
            Problem(
                self.split,
                self.modality,
                self.survey_ids[int(row)],
                self.layers[0].source,
                "no value at all. expected a series",
            )
            for row in rows[empty]
        ]
        kept = encode(values[~empty], self.dtype, self.fill).reshape(-1, *self.shape)
        counts = {OUT_OF_RANGE: int(impossible.sum())} if impossible.any() else {}
        return SeriesChunk(rows[~empty], kept, problems, counts)


def raster_series(
    config: SeriesConfig, root: Path, split: str, survey_table: pl.DataFrame, *, crs: str | None = None
) -> RasterSeries:
    """Return where the series of a split are read from.

    Parameters
    ----------
    config
        Dated rasters or cubes, channels and years.
    root
        Folder that files are named from.
    split
        Name of the split.
    survey_table
        ``survey_id``, ``lon`` and ``lat``; rows of chunks are positions in it.
    crs
        Of rasters that name none themselves.

    Raises
    ------
    RasterError
        If there is no raster, one cannot be read or does not say where it lies, or its bands do not fit the years.
    """
    shape = len(config.channels), config.last_year - config.first_year + 1, SEASONS[config.modality]
    found: dict[int, Layer] = {}
    for source, steps in find_steps(config, root, shape):
        described = RasterConfig(file=source, crs=config.crs, categorical=False)
        for layer in open_layers([described], root, crs=crs):
            step = steps.get(layer.band)
            if step is not None and step in found:
                other = found[step]
                raise RasterError(
                    f"band {other.band} of {other.source} and band {layer.band} of {layer.source} are of one "
                    f"{_name_of(step, config, shape)}",
                    expected=f"{shape[2]} steps a year",
                    action="Average them first",
                )
            if step is not None:
                found[step] = replace(layer, name=_name_of(step, config, shape))
    if not found:
        raise RasterError(
            f"none of the rasters of {config.modality} lies in {config.first_year} to {config.last_year}",
            action="Look at first_year, last_year and the pattern of file in study.toml",
        )
    layers = tuple(found.values())
    lon, lat = (survey_table[axis].cast(pl.Float64).to_numpy() for axis in ("lon", "lat"))
    located = locate_all([layer.grid for layer in layers], lon, lat)
    has = np.any([at.inside for at in located.values()], axis=0)
    dtype, fill = stored_type(layers)
    grid, at = next(iter(located.items()))
    rows = np.flatnonzero(has)
    block = at.rows[rows] // grid.block_height, at.columns[rows] // grid.block_width
    return RasterSeries(
        split=split,
        modality=config.modality,
        has=has,
        rows=rows[np.lexsort((block[1], block[0]))],
        survey_ids=survey_table["survey_id"],
        channel_names=config.channels,
        shape=shape,
        first_year=config.first_year,
        dtype=dtype,
        fill=fill,
        units=config.units or layers[0].units,
        low=config.low,
        high=config.high,
        layers=layers,
        steps=np.array(list(found), np.int64),
        located=located,
    )


def _name_of(step: int, config: SeriesConfig, shape: tuple[int, int, int]) -> str:
    channel, year, season = np.unravel_index(step, shape)
    return f"{config.channels[channel]}_{config.first_year + year}_{season + 1}"
