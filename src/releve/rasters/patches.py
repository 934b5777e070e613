"""Patches cut from rasters around each place: a square on the ground, whatever the raster's cells."""

# C channels, H W pixels of a patch, I J cells of the raster that they are made from

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from releve.errors import RasterError
from releve.ingest.chunks import ChunkSource
from releve.ingest.config import PatchConfig, RasterConfig
from releve.ingest.patches import PatchChunk
from releve.ingest.problems import Problem
from releve.rasters.files import open_raster, read_bands
from releve.rasters.grid import Located, cell_sizes_m, locate_all, select_places
from releve.rasters.layer import Layer, to_numbers
from releve.rasters.layers import open_layers
from releve.rasters.stored import encode, stored_type

CHANNELS = ("red", "green", "blue", "nir")


@dataclass(frozen=True)
class RasterPatches(ChunkSource[PatchChunk]):
    """The patches of one split. Small enough to be sent to another process."""

    split: str
    has: NDArray[np.bool_]
    """Aligned to the survey table: the survey lies on a raster."""
    rows: NDArray[np.int64]
    """Positions, in the survey table, of those that do; neighbours on the ground follow one another."""
    survey_ids: pl.Series
    channel_names: tuple[str, ...]
    size_m: float
    size_px: int
    dtype: np.dtype
    fill: float
    units: str
    parts: tuple[tuple[tuple[Layer, ...], Located], ...]
    """The layers of each file, and all surveys on their grid."""
    modality: str = "patch"
    kind: str = "raster"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return len(self.channel_names), self.size_px, self.size_px

    def read_chunk(self, index: int, chunk_size: int = 256) -> PatchChunk:
        """Return one chunk; a survey around which there are no data is left out, with a problem.

        Raises
        ------
        RasterError
            If a raster cannot be read.
        """
        rows = self.chunk_rows(index, chunk_size)
        values = np.empty((len(rows), *self.shape), np.float32)
        channel = 0
        for layers, located in self.parts:
            at = select_places(located, rows)
            with open_raster(layers[0].source) as dataset:
                for place in range(len(rows)):
                    patch = self._cut(dataset, layers, at, place)
                    values[place, channel : channel + len(layers)] = patch
            channel += len(layers)
        empty = np.asarray(np.isnan(values).all(axis=(1, 2, 3)))
        source = ", ".join(dict.fromkeys(layers[0].source for layers, _ in self.parts))
        problems = [
            Problem(self.split, self.modality, self.survey_ids[int(row)], source, "no data around the place")
            for row in rows[empty]
        ]
        order = np.argsort(rows)
        order = order[~empty[order]]
        return PatchChunk(rows[order], encode(values[order], self.dtype, self.fill), problems)

    def _cut(self, dataset: DatasetReader, layers: tuple[Layer, ...], at: Located, place: int) -> NDArray[np.float32]:
        """Return (C, H, W) around one place, NaN where it is missing."""
        grid, row = layers[0].grid, int(at.rows[place])
        if row < 0:
            return np.full((len(layers), self.size_px, self.size_px), np.nan, np.float32)
        across_m, along_m = cell_sizes_m(grid)
        down = _weights(float(at.row_positions[place]), self.size_m / along_m[row], self.size_px, grid.height)
        over = _weights(float(at.column_positions[place]), self.size_m / across_m[row], self.size_px, grid.width)
        (top, weights_HI), (left, weights_WJ) = down, over
        window = Window(left, top, weights_WJ.shape[1], weights_HI.shape[1])
        raw = read_bands(dataset, [layer.band for layer in layers], window)
        patch = np.empty((len(layers), self.size_px, self.size_px), np.float32)
        for number, layer in enumerate(layers):
            cells = to_numbers(raw[layer.band], layer)
            if layer.masked:
                cells[dataset.read_masks(layer.band, window=window) == 0] = np.nan
            patch[number] = _resample(cells, weights_HI, weights_WJ)
        return patch


def raster_patches(
    config: PatchConfig, root: Path, split: str, survey_table: pl.DataFrame, *, crs: str | None = None
) -> RasterPatches:
    """Return where the patches of a split are cut from.

    Parameters
    ----------
    config
        Rasters, whose bands follow one another as channels, and the size of a patch.
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
        If a raster is missing or cannot be read, does not say where it lies, or the names are not one for each band.
    """
    described = RasterConfig(file=config.file, bands=config.bands, crs=config.crs, categorical=False)
    layers = open_layers([described], root, crs=crs)
    lon, lat = (survey_table[axis].cast(pl.Float64).to_numpy() for axis in ("lon", "lat"))
    located = locate_all([layer.grid for layer in layers], lon, lat)
    files: dict[str, list[Layer]] = {}
    for layer in layers:
        files.setdefault(layer.source, []).append(layer)
    has = np.any([at.inside for at in located.values()], axis=0)
    dtype, fill = stored_type(layers)
    return RasterPatches(
        split=split,
        has=has,
        rows=_along_the_ground(layers[0], located[layers[0].grid], has, config.size_m),
        survey_ids=survey_table["survey_id"],
        channel_names=_channel_names(config, layers),
        size_m=config.size_m,
        size_px=config.size_px,
        dtype=dtype,
        fill=fill,
        units=layers[0].units,
        parts=tuple((tuple(bands), located[bands[0].grid]) for bands in files.values()),
    )


def _channel_names(config: PatchConfig, layers: tuple[Layer, ...]) -> tuple[str, ...]:
    names = config.names or (CHANNELS[: len(layers)] if len(layers) <= 4 else tuple(layer.name for layer in layers))
    if len(names) != len(layers):
        raise RasterError(
            f"patches have {len(layers)} bands and names holds {len(names)}", expected="a name for each band"
        )
    return names


def _along_the_ground(layer: Layer, at: Located, has: NDArray[np.bool_], size_m: float) -> NDArray[np.int64]:
    """Return the surveys in belts as high as a patch or a block, from west to east: blocks in use stay in memory."""
    _, along_m = cell_sizes_m(layer.grid)
    belt = max(layer.grid.block_height, int(size_m / along_m.min()), 1)
    rows = np.flatnonzero(has)
    return rows[np.lexsort((at.columns[rows], at.rows[rows] // belt))]


def _weights(centre: float, num_cells: float, num_pixels: int, length: int) -> tuple[int, NDArray[np.float32]]:
    """Return the first cell that pixels along an axis are made from, and (pixels, cells) the weights of those.

    A pixel is made from the cells whose centres are less than a cell away from its own, or less than a pixel where
    pixels are larger, by nearness. One whose centre lies outside the raster has no weights.

    Examples
    --------
    Two pixels of two cells each:

    >>> first, weights = _weights(10.0, 4.0, 2, 100)
    >>> first, weights.tolist()
    (7, [[0.25, 0.75, 0.75, 0.25, 0.0, 0.0], [0.0, 0.0, 0.25, 0.75, 0.75, 0.25]])
    """
    step = num_cells / num_pixels
    support = max(step, 1.0)
    pixels = centre - num_cells / 2 + (np.arange(num_pixels) + 0.5) * step
    first = min(max(int(np.ceil(pixels[0] - support - 0.5)), 0), length - 1)
    end = max(min(int(np.floor(pixels[-1] + support - 0.5)) + 1, length), first + 1)
    cells = np.arange(first, end) + 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(cells - pixels[:, None]) / support)
    weights[(pixels < 0) | (pixels >= length)] = 0.0
    return first, weights.astype(np.float32)


def _resample(
    cells_IJ: NDArray[np.float32], weights_HI: NDArray[np.float32], weights_WJ: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (H, W) weighted means of cells; a missing one leaves it to the others."""
    known = np.isfinite(cells_IJ)
    if known.all():
        weight = np.outer(weights_HI.sum(axis=1), weights_WJ.sum(axis=1))
    else:
        weight = weights_HI @ known.astype(np.float32) @ weights_WJ.T
        cells_IJ = np.where(known, cells_IJ, np.float32(0))
    total = weights_HI @ cells_IJ @ weights_WJ.T
    enough = weight > 1e-6
    return np.where(enough, total / np.where(enough, weight, 1.0), np.nan).astype(np.float32)
