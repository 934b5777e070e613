"""Values at places from a window of cells: the nearest, between four, or all within a radius."""

# B bands, N places, H W cells of the window

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from releve.rasters.derive import derive
from releve.rasters.grid import Located, cell_sizes_m, select_places
from releve.rasters.layer import Layer, to_numbers

SLICE_CELLS = 2**18
"""Cells worked on at a time; each takes some 150 bytes meanwhile."""


@dataclass(frozen=True)
class Cells:
    """A window of one layer's band as it is in the file."""

    row: int
    column: int
    """Of its first cell in the raster."""
    raw_HW: NDArray
    hidden_HW: NDArray[np.bool_] | None = None
    """Where the file's mask says that there is no data."""


def margin(layer: Layer, rows: NDArray[np.integer]) -> tuple[int, int]:
    """Return how many rows and columns around their cells the values at places of these rows depend on."""
    down = across = int(bool(layer.derived))
    if layer.method == "bilinear":
        return down + 1, across + 1
    if layer.radius_m is not None:
        across_m, along_m = cell_sizes_m(layer.grid)
        first, last = int(rows.min()), int(rows.max())
        down += int(layer.radius_m / along_m[first : last + 1].min()) + 1
        across += int(min(layer.radius_m / max(across_m[first : last + 1].min(), 1e-9), layer.grid.width)) + 1
    return down, across


def values_at(layer: Layer, cells: Cells, at: Located) -> NDArray[np.float32]:
    """Return (N, columns) values of a layer at places inside a window that reaches ``margin`` beyond them.

    Where whole windows are worked on, they are in slices of some rows: a block may be as large as its file.
    """
    if layer.method == "nearest" and not layer.derived:
        return _look_up(layer, cells, at.rows - cells.row, at.columns - cells.column)[:, None]
    values = np.empty((len(at.rows), len(layer.columns)), np.float32)
    down, _ = margin(layer, at.rows)
    step = max(SLICE_CELLS // cells.raw_HW.shape[1], 2 * down, 1)
    for first in range(int(at.rows.min()), int(at.rows.max()) + 1, step):
        here = np.flatnonzero((at.rows >= first) & (at.rows < first + step))
        if len(here):
            values[here] = _from_slice(layer, _slice(cells, first - down, first + step + down), select_places(at, here))
    return values


def _slice(cells: Cells, first: int, end: int) -> Cells:
    """Return some rows, counted in the raster, of a window."""
    rows = slice(max(first - cells.row, 0), end - cells.row)
    hidden = None if cells.hidden_HW is None else cells.hidden_HW[rows]
    return Cells(cells.row + rows.start, cells.column, cells.raw_HW[rows], hidden)


def _from_slice(layer: Layer, cells: Cells, at: Located) -> NDArray[np.float32]:
    rows, columns = at.rows - cells.row, at.columns - cells.column
    numbers = _numbers(layer, cells)
    if layer.method == "nearest":
        return numbers[rows, columns][:, None]
    if layer.method == "bilinear":
        return _between(numbers, at.row_positions - cells.row, at.column_positions - cells.column)[:, None]
    if layer.method == "mean":
        return _mean_within(layer, numbers, cells, at)[:, None]
    assert layer.method == "share", layer.method
    return _shares_within(layer, numbers, cells, at)


def _look_up(layer: Layer, cells: Cells, rows: NDArray, columns: NDArray) -> NDArray[np.float32]:
    """Return the values of single cells; only these are converted."""
    flat = rows * np.int64(cells.raw_HW.shape[1]) + columns
    values = to_numbers(cells.raw_HW.ravel()[flat], layer)
    if cells.hidden_HW is not None:
        values[cells.hidden_HW.ravel()[flat]] = np.nan
    return values


def _numbers(layer: Layer, cells: Cells) -> NDArray[np.float32]:
    numbers = to_numbers(cells.raw_HW, layer)
    if cells.hidden_HW is not None:
        numbers[cells.hidden_HW] = np.nan
    if layer.derived:
        across_m, along_m = cell_sizes_m(layer.grid)
        span = slice(cells.row, cells.row + len(numbers))
        numbers = derive(layer.derived, numbers, across_m[span], along_m[span], south_up=layer.grid.transform[4] > 0)
    return numbers


def _between(numbers: NDArray[np.float32], row: NDArray, column: NDArray) -> NDArray[np.float32]:
    """Return the means of the four cells around each place, by nearness; a missing one leaves it to the others."""
    first_row, first_column = np.floor(row - 0.5).astype(np.int64), np.floor(column - 0.5).astype(np.int64)
    down, across = row - 0.5 - first_row, column - 0.5 - first_column
    height, width = numbers.shape
    total, weight = np.zeros(len(row)), np.zeros(len(row))
    for i, weight_row in ((0, 1 - down), (1, down)):
        for j, weight_column in ((0, 1 - across), (1, across)):
            r, c = first_row + i, first_column + j
            known = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            value = numbers[np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)].astype(np.float64)
            share = np.where(known & np.isfinite(value), weight_row * weight_column, 0.0)
            total += share * np.where(share > 0, value, 0.0)
            weight += share
    return _ratio(total, weight)


def _ratio(total: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return total / weight, NaN where the weight is 0."""
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan).astype(np.float32)


def _mean_within(layer: Layer, numbers: NDArray[np.float32], cells: Cells, at: Located) -> NDArray[np.float32]:
    known = np.isfinite(numbers)
    total = _sum_within(layer, np.where(known, numbers, 0.0), cells, at)
    return _ratio(total, _sum_within(layer, known.astype(np.float64), cells, at))


def _shares_within(layer: Layer, numbers: NDArray[np.float32], cells: Cells, at: Located) -> NDArray[np.float32]:
    weight = _sum_within(layer, np.isfinite(numbers).astype(np.float64), cells, at)
    totals = [_sum_within(layer, (numbers == code).astype(np.float64), cells, at) for code, _ in layer.classes]
    return np.stack([_ratio(total, weight) for total in totals], axis=1)


def _sum_within(layer: Layer, numbers: NDArray[np.float64], cells: Cells, at: Located) -> NDArray[np.float64]:
    """Return the sums of the cells whose centres lie within the radius of each place; of its own cell at least.

    Sums along the rows up to each cell are worked out once, so that a circle costs two look-ups a row.
    """
    assert layer.radius_m is not None
    height, width = numbers.shape
    until = np.zeros((height, width + 1))
    np.cumsum(numbers, axis=1, out=until[:, 1:])
    across_m, along_m = (sizes[at.rows] for sizes in cell_sizes_m(layer.grid))
    row, column = at.rows - cells.row, at.columns - cells.column
    down, across = at.row_positions - at.rows - 0.5, at.column_positions - at.columns - 0.5
    total, num_cells = np.zeros(len(row)), np.zeros(len(row), np.int64)
    reach = int(layer.radius_m / along_m.min()) + 1
    for step in range(-reach, reach + 1):
        half_m = layer.radius_m**2 - ((step - down) * along_m) ** 2
        half = np.sqrt(np.maximum(half_m, 0.0)) / across_m
        first = np.maximum(column + np.ceil(across - half).astype(np.int64), 0)
        last = np.minimum(column + np.floor(across + half).astype(np.int64) + 1, width)
        there = (half_m >= 0) & (row + step >= 0) & (row + step < height) & (last > first)
        r, f, t = (row + step)[there], first[there], last[there]
        total[there] += until[r, t] - until[r, f]
        num_cells[there] += t - f
    alone = num_cells == 0
    total[alone] = numbers[row[alone], column[alone]]
    return total
