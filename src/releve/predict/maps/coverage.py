"""How much of each cell of a grid a polygon covers, exactly."""

# N pieces of a polygon's edges, each within one cell

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from releve.predict.maps.grid import Tile
from releve.rasters.grid import Grid, is_geographic


@dataclass(frozen=True)
class Outline:
    """The edges of a polygon on a grid, cut where they cross from one cell to another, in the order of their rows."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    """(N,) the cell that a piece lies in."""
    heights: NDArray[np.float64]
    """(N,) how many rows a piece spans, below 0 where it goes up."""
    places: NDArray[np.float64]
    """(N,) how far from the left its middle is in the cell, from 0 to 1."""

    def coverage(self, tile: Tile) -> NDArray[np.float64]:
        """Return (height, width) the share of each of a tile's cells that the polygon covers.

        A piece covers what lies to its right, and the polygon is the sum over its pieces, those that go up taken off:
        the area of a polygon as surveyors have it, cell by cell.
        """
        first, end = np.searchsorted(self.rows, (tile.row, tile.row + tile.height)).tolist()
        at = slice(first, end)
        left = self.columns[at] < tile.column
        rows, columns = self.rows[at] - tile.row, np.where(left, 0, self.columns[at] - tile.column)
        places = np.where(left, 0.0, self.places[at])
        there = columns < tile.width
        rows, columns, places, heights = rows[there], columns[there], places[there], self.heights[at][there]
        shape, size = (tile.height, tile.width + 1), tile.height * (tile.width + 1)
        cell = rows * (tile.width + 1) + columns
        steps = (
            np.bincount(cell, heights * (1 - places), size) + np.bincount(cell + 1, heights * places, size + 1)[:size]
        )
        return np.clip(np.cumsum(steps.reshape(shape), axis=1)[:, :-1], 0.0, 1.0)


def outline_of(polygon: shapely.Geometry, grid: Grid) -> Outline:
    """Return the outline of a valid polygon, or of several that do not overlap, on a grid.

    Parameters
    ----------
    polygon
        In the grid's CRS; of degrees, 360 more or less are the same.
    grid
        Whose rows and columns run along its axes.
    """
    turns = (0.0, 360.0, -360.0) if is_geographic(grid.crs) else (0.0,)
    parts = [_pieces(_on_grid(polygon, grid, turn), grid) for turn in turns]
    rows, columns, heights, places = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return Outline(rows[order], columns[order], heights[order], places[order])


def _on_grid(polygon: shapely.Geometry, grid: Grid, turn: float) -> list[NDArray[np.float64]]:
    """Return the rings of what lies on the grid, in columns and rows, going down on the left of what they hold."""
    a, _, c, _, e, f = grid.transform
    x, y = sorted((c, c + a * grid.width)), sorted((f, f + e * grid.height))
    west, _, east, _ = shapely.bounds(polygon)
    if not (west + turn < x[1] and east + turn > x[0]):
        return []
    inside = shapely.clip_by_rect(polygon, x[0] - turn, y[0], x[1] - turn, y[1])
    rings = []
    for part in shapely.get_parts(inside):
        if shapely.get_type_id(part) != 3 or part.is_empty:
            continue
        for ring, sign in [(part.exterior, 1.0), *((hole, -1.0) for hole in part.interiors)]:
            x_y = shapely.get_coordinates(ring)
            xy = np.column_stack([(x_y[:, 0] + turn - c) / a, (x_y[:, 1] - f) / e])
            rings.append(xy if sign * _signed_area(xy) > 0 else xy[::-1])
    return rings


def _signed_area(xy: NDArray[np.float64]) -> float:
    """Return the sum of what lies to the right of edges that go down, less that of those that go up."""
    return -float(((xy[1:, 1] - xy[:-1, 1]) * (xy[1:, 0] + xy[:-1, 0])).sum()) / 2


def _pieces(
    rings: list[NDArray[np.float64]], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return row, column, height and place of each piece of some rings."""
    if not rings:
        nothing = np.zeros(0)
        return nothing.astype(np.int64), nothing.astype(np.int64), nothing, nothing
    start = np.concatenate([ring[:-1] for ring in rings])
    end = np.concatenate([ring[1:] for ring in rings])
    edge, share = _crossings(start, end)
    same = edge[1:] == edge[:-1]
    from_, to = share[:-1][same], share[1:][same]
    edge = edge[:-1][same]
    step = end[edge] - start[edge]
    middle = start[edge] + step * ((from_ + to) / 2)[:, None]
    heights = step[:, 1] * (to - from_)
    columns, rows = np.floor(middle).astype(np.int64).T
    columns = np.clip(columns, 0, grid.width)
    kept = (heights != 0) & (rows >= 0) & (rows < grid.height)
    places = np.clip(middle[:, 0] - columns, 0.0, 1.0)
    return rows[kept], columns[kept], heights[kept], places[kept]


def _crossings(start: NDArray[np.float64], end: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where edges begin, end and cross lines between cells: the edge, and the share of it before that place."""
    edges, shares = [np.arange(len(start))] * 2, [np.zeros(len(start)), np.ones(len(start))]
    for axis in (0, 1):
        low, high = np.minimum(start[:, axis], end[:, axis]), np.maximum(start[:, axis], end[:, axis])
        first, count = np.floor(low) + 1, np.maximum(np.ceil(high) - np.floor(low) - 1, 0).astype(np.int64)
        edge = np.arange(len(start)).repeat(count)
        line = first[edge] + np.arange(len(edge)) - (np.cumsum(count) - count)[edge]
        edges.append(edge)
        shares.append((line - start[edge, axis]) / (end[edge, axis] - start[edge, axis]))
    edge, share = np.concatenate(edges), np.clip(np.concatenate(shares), 0.0, 1.0)
    order = np.lexsort((share, edge))
    return edge[order], share[order]
