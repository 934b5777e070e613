"""The grid of a map, and the tiles that it is worked on in."""

# N cells

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from releve.errors import RasterError
from releve.rasters.grid import Grid, is_geographic
from releve.rasters.layer import Layer

TILE_SIZES = {4_096: 128}
"""Rows and columns of a tile of so many species at most; of more they are 64. Places of all species are held in memory
while a tile is worked on, and a cell's place in it is a number of 16 bits."""
METRES_A_DEGREE = 111_319.49079327357
"""Of the equator on the ellipsoid of EPSG:4326: a cell's size in metres is divided by it for a grid of degrees."""
MOST_CELLS = 2**31
"""Cells of a row or column are counted in 32 bits."""


@dataclass(frozen=True)
class Bounds:
    """What a map covers, in degrees; ``west`` lies east of ``east`` where it covers the antimeridian.

    Examples
    --------
    >>> Bounds(170.0, -20.0, -170.0, -10.0).width
    20.0
    """

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        numbers = (self.west, self.south, self.east, self.north)
        known = all(map(math.isfinite, numbers))
        if not (known and -180 <= self.west <= 180 and -180 <= self.east <= 180 and -90 <= self.south <= 90):
            raise RasterError(f"bounds {numbers}", expected="west south east north in degrees")
        if not self.south < self.north <= 90 or self.west == self.east:
            raise RasterError(
                f"bounds from latitude {self.south} to {self.north}, longitude {self.west} to {self.east}",
                expected="west south east north in degrees, south below north",
            )

    @property
    def width(self) -> float:
        """Degrees from west to east."""
        return self.east - self.west + (360.0 if self.east < self.west else 0.0)


@dataclass(frozen=True)
class Tile:
    """A part of a grid: the row and column of its first cell, and its size."""

    row: int
    column: int
    height: int
    width: int
    name: str = ""
    """Its number from the top and from the left."""


def tile_size(num_species: int) -> int:
    """Return the rows and columns of a tile.

    Examples
    --------
    >>> tile_size(300), tile_size(11_255), tile_size(100_000)
    (128, 64, 64)
    """
    return next((size for most, size in TILE_SIZES.items() if num_species <= most), 64)


def tiles_of(grid: Grid) -> list[Tile]:
    """Return the tiles of a grid, row by row.

    Examples
    --------
    >>> grid = Grid("EPSG:4326", (0.1, 0.0, 5.0, 0.0, -0.1, 50.0), 300, 200, 256, 256)
    >>> [(tile.name, tile.height, tile.width) for tile in tiles_of(grid)]
    [('00000_00000', 256, 200), ('00001_00000', 44, 200)]
    """
    size = grid.block_height
    return [
        Tile(row, column, min(size, grid.height - row), min(size, grid.width - column), f"{i:05d}_{j:05d}")
        for i, row in enumerate(range(0, grid.height, size))
        for j, column in enumerate(range(0, grid.width, size))
    ]


def cell_centres(grid: Grid, tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) longitude and latitude, in degrees, of the centres of a tile's cells, row by row.

    They are not finite where the grid's projection has no place on Earth for a cell.
    """
    rows, columns = np.mgrid[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]
    return centres_at(grid, rows.ravel(), columns.ravel())


def centres_at(
    grid: Grid, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) longitude and latitude, in degrees, of the centres of some cells; see :func:`cell_centres`."""
    a, _, c, _, e, f = grid.transform
    x, y = (first + step * (at + np.float64(0.5)) for first, step, at in ((c, a, columns), (f, e, rows)))
    if is_geographic(grid.crs) and CRS.from_user_input(grid.crs) == CRS.from_epsg(4326):
        return _wrapped(x), y
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return _wrapped(np.asarray(lon)), np.asarray(lat)


def _wrapped(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return longitudes from -180 to 180."""
    with np.errstate(invalid="ignore"):  # of what has no place on Earth
        return np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)


def grid_for(
    layers: Sequence[Layer],
    bounds: Bounds | None = None,
    *,
    tile_size: int = 256,
    resolution_m: float | None = None,
    crs: str | None = None,
) -> Grid:
    """Return the grid of a map.

    By default it is the grid that most layers have, and with bounds a window of it, so that every cell of the map is a
    cell of the rasters. With a resolution or a CRS it is a grid of its own, whose cells begin at multiples of their
    size.

    Parameters
    ----------
    layers
        The rasters that the cells are described by; none if the run looks at no raster.
    bounds
        By default all that the rasters cover.
    tile_size
        Rows and columns of a tile.
    resolution_m
        Side of a cell in metres; of a grid of degrees, metres at the equator.
    crs
        By default that of the rasters.

    Raises
    ------
    RasterError
        If the bounds lie outside the rasters or nowhere in the CRS, or nothing says how large cells are.
    """
    grids = Counter(layer.grid for layer in layers for _ in layer.columns)
    usual = grids.most_common(1)[0][0] if grids else None
    if usual is not None and resolution_m is None and (crs is None or _same(crs, usual.crs)):
        found = _window_of(usual, bounds)
    else:
        found = _own_grid(usual, bounds, resolution_m, crs)
    return replace(found, block_height=tile_size, block_width=tile_size)


def _same(crs: str, other: str) -> bool:
    return _parsed(crs) == _parsed(other)


def _parsed(crs: str) -> CRS:
    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise RasterError(f"--crs {crs} is no coordinate system", expected="EPSG:3035 and the like") from error


def _window_of(grid: Grid, bounds: Bounds | None) -> Grid:
    """Return the cells of a grid whose area meets the bounds."""
    a, b, c, d, e, f = grid.transform
    if b or d or a <= 0:
        raise RasterError(
            "the rasters' grid is turned or runs from east to west",
            action="Give the map a grid of its own: --crs and --resolution",
        )
    if bounds is None:
        return Grid(grid.crs, grid.transform, grid.height, grid.width, 1, 1)
    whole_earth = is_geographic(grid.crs) and a * grid.width > 359.9
    west, south, east, north = _bounds_in(bounds, grid.crs, c)
    if is_geographic(grid.crs) and not whole_earth and east - 360 > c:
        west, east = west - 360, east - 360  # they begin west of the grid and reach into it
    top, bottom = sorted(((north - f) / e, (south - f) / e))
    first_row, end_row = max(0, math.floor(top + 1e-6)), min(grid.height, math.ceil(bottom - 1e-6))
    first, end = math.floor((west - c) / a + 1e-6), math.ceil((east - c) / a - 1e-6)
    if not whole_earth:
        first, end = max(0, first), min(grid.width, end)
    if first_row >= end_row or first >= end:
        raise RasterError(
            f"the region ({_text(bounds)}) does not overlap the rasters",
            expected=f"a region within {_extent(grid)} of {_name(grid.crs)}",
            action="Look at the order of the bounds (west south east north), or name other rasters with --rasters",
        )
    transform = (a, 0.0, c + a * first, 0.0, e, f + e * first_row)
    return Grid(grid.crs, transform, end_row - first_row, end - first, 1, 1)


def _own_grid(usual: Grid | None, bounds: Bounds | None, resolution_m: float | None, crs: str | None) -> Grid:
    """Return a grid whose cells begin at multiples of their size."""
    crs = crs or (usual.crs if usual else "EPSG:4326")
    parsed = _parsed(crs)
    if resolution_m is not None and not (math.isfinite(resolution_m) and resolution_m > 0):
        raise RasterError(f"--resolution {resolution_m}", expected="metres above 0")
    if usual is None and (bounds is None or resolution_m is None):
        raise RasterError(
            "the run looks at no raster, so that nothing says what the map covers and how large its cells are",
            action="Give --bounds W S E N (or --region FILE) and --resolution METRES",
        )
    if usual is not None and bounds is None:
        bounds = _bounds_of(usual)
    assert bounds is not None
    if parsed.is_geographic:
        size = (resolution_m or _metres(usual)) / METRES_A_DEGREE
        west, south, east, north = _bounds_in(bounds, crs, -180.0)
    else:
        size = (resolution_m or _metres(usual)) / parsed.axis_info[0].unit_conversion_factor
        west, south, east, north = _bounds_in(bounds, crs, 0.0)
    first, end = math.floor(west / size + 1e-9), math.ceil(east / size - 1e-9)
    bottom, top = math.floor(south / size + 1e-9), math.ceil(north / size - 1e-9)
    if max(end - first, top - bottom) >= MOST_CELLS:
        raise RasterError(f"a map of {end - first:,} x {top - bottom:,} cells", expected="a coarser --resolution")
    transform = (size, 0.0, first * size, 0.0, -size, top * size)
    return Grid(parsed.to_string(), transform, top - bottom, end - first, 1, 1)


def _metres(grid: Grid | None) -> float:
    """Return the side of a grid's cells in metres; of degrees, at the equator."""
    assert grid is not None
    parsed = CRS.from_user_input(grid.crs)
    factor = METRES_A_DEGREE if parsed.is_geographic else parsed.axis_info[0].unit_conversion_factor
    return abs(grid.transform[4]) * factor


def _bounds_in(bounds: Bounds, crs: str, west_end: float) -> tuple[float, float, float, float]:
    """Return west, south, east, north of bounds in a CRS; of degrees, from ``west_end`` on eastwards."""
    if is_geographic(crs):
        west = west_end + (bounds.west - west_end) % 360
        if west - west_end > 360 - 1e-9:
            west = west_end
        return west, bounds.south, west + bounds.width, bounds.north
    try:
        corners = [transform_bounds("EPSG:4326", crs, *part, densify_pts=101) for part in _parts(bounds)]
        found = np.array(corners)
    except RasterioError:
        found = np.full((1, 4), np.nan)
    if not np.isfinite(found).all():
        raise RasterError(
            f"the region ({_text(bounds)}) has no place in {_name(crs)}",
            expected="a region that the projection can hold, poles and the far side of the Earth left out",
            action="Give narrower --bounds, or another --crs",
        )
    return found[:, 0].min(), found[:, 1].min(), found[:, 2].max(), found[:, 3].max()


def _parts(bounds: Bounds) -> list[tuple[float, float, float, float]]:
    if bounds.west < bounds.east:
        return [(bounds.west, bounds.south, bounds.east, bounds.north)]
    return [(bounds.west, bounds.south, 180.0, bounds.north), (-180.0, bounds.south, bounds.east, bounds.north)]


def _bounds_of(grid: Grid) -> Bounds:
    """Return what a grid covers."""
    a, _, c, _, e, f = grid.transform
    x, y = sorted((c, c + a * grid.width)), sorted((f, f + e * grid.height))
    west, south, east, north = transform_bounds(grid.crs, "EPSG:4326", x[0], y[0], x[1], y[1], densify_pts=101)
    if east - west >= 360:
        west, east = -180.0, 180.0
    return Bounds(float(_wrapped(np.array(west))), max(south, -90.0), float(_wrapped(np.array(east))), min(north, 90.0))


def _extent(grid: Grid) -> str:
    a, _, c, _, e, f = grid.transform
    x, y = sorted((c, c + a * grid.width)), sorted((f, f + e * grid.height))
    return f"{x[0]:g} to {x[1]:g} by {y[0]:g} to {y[1]:g}"


def _text(bounds: Bounds) -> str:
    return f"west {bounds.west:g}, south {bounds.south:g}, east {bounds.east:g}, north {bounds.north:g}"


def _name(crs: str) -> str:
    return crs if len(crs) < 30 else CRS.from_user_input(crs).name
